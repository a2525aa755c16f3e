"""Deletes expired records, in the background and a few at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from serving.errors import ServingError

__all__ = ["Sweepable", "Sweeper"]

logger = logging.getLogger(__name__)


class Sweepable(Protocol):
    """What holds records that expire."""

    def sweep(self) -> int:
        """Deletes some that have expired; returns how many."""
        ...


class Sweeper:
    """Looks for expired records every so often, in a thread of its own.

    What cannot be deleted now, for want of room or because a collection is closing, is left to the next time.

    Args:
        collections: Returns what there is to sweep.
        pause_s: Seconds between two looks.
    """

    def __init__(self, collections: Callable[[], Sequence[Sweepable]], *, pause_s: float) -> None:
        self._collections = collections
        self._pause_s = pause_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expiry-sweeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends after the write that runs; closing twice is harmless."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._pause_s):
            for collection in self._collections():
                self._sweep(collection)

    def _sweep(self, collection: Sweepable) -> None:
        try:
            while not self._closing.is_set() and collection.sweep():
                pass
        except ServingError as error:
            logger.debug("sweep put off", extra={"detail": error.message})
