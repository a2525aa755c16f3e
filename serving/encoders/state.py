"""Where an encoder stands, as health reports it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["EncoderPhase", "EncoderState"]


class EncoderPhase(StrEnum):
    """The stages of an encoder's life in the server."""

    LOADING = "loading"
    SERVING = "serving"
    REFUSED = "refused"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EncoderState:
    """A stage and, where it is not a good one, why."""

    phase: EncoderPhase
    detail: str = ""
    """One sentence; empty while all is well."""
