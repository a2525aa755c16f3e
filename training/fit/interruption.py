"""Ctrl-C and SIGTERM let the step that is under way finish and be saved; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["InterruptWatch", "Interrupted"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by its user and can be resumed."""


class InterruptWatch:
    """Remembers that the run shall stop, while it is entered; does nothing outside the main thread."""

    def __init__(self) -> None:
        self.requested = False
        """Whether a signal came."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Takes over the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def install(self) -> None:
        """Takes over the signals again, from whoever took them meanwhile, as Lightning does."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
