"""What a server tells of itself: its log, and later its traces; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LogConfig"]

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """Settings of the log, which goes to stderr and never holds what callers send."""

    log_format: str = "text"
    """`text`, or `json`: an object a line, and nothing else on stderr."""
    log_level: str = "info"
    """Least level that is written: `debug`, `info`, `warning` or `error`."""
    access_log: bool = False
    """Whether every call writes a line when it ends: method, code, time, names and counts."""

    def __post_init__(self) -> None:
        for name, choices in (("log_format", FORMATS), ("log_level", LEVELS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} ({getattr(self, name)!r}) must be one of {', '.join(choices)}")
