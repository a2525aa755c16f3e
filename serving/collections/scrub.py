"""Reads in the background, slowly, what was only mapped at start, and compares it with its checksums."""

from __future__ import annotations

import logging
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from serving.collections.index.base import INDEX_FILE, Base
from serving.collections.index.derived import DerivedIndex
from serving.collections.record_codec import RecordRow, decode_vector
from serving.collections.record_reader import RecordReader
from serving.errors import Corrupted, Draining, Unavailable

__all__ = ["Pace", "Scrubber", "scrub"]

logger = logging.getLogger(__name__)

_PAGE_RECORDS = 256
_READ_BYTES = 1 << 20
_LEAST_PAUSE_S = 0.02
_NICENESS = 19


class _StoppedError(Exception):
    """The server is closing."""


class Pace:
    """Holds a reader to a rate.

    Args:
        bytes_per_s: The rate.
        stopped: Ends the reading.
    """

    def __init__(self, bytes_per_s: int, stopped: threading.Event) -> None:
        self._bytes_per_s = bytes_per_s
        self._stopped = stopped
        self._owed_s = 0.0

    def spend(self, byte_count: int) -> None:
        """Waits for as long as so many bytes take.

        Args:
            byte_count: What was just read.

        Raises:
            _StoppedError: The server is closing.
        """
        self._owed_s += byte_count / self._bytes_per_s
        if self._owed_s >= _LEAST_PAUSE_S:
            self._stopped.wait(self._owed_s)
            self._owed_s = 0.0
        if self._stopped.is_set():
            raise _StoppedError


class Scrubber:
    """One thread that scrubs collections one after the other, at the lowest priority.

    Args:
        bytes_per_s: Rate at which it reads; 0: it does nothing.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._stopped = threading.Event()
        self._queue: queue.SimpleQueue[Callable[[Pace], None] | None] = queue.SimpleQueue()
        self._pace = Pace(bytes_per_s, self._stopped) if bytes_per_s else None
        self._thread = threading.Thread(target=self._run, name="scrubber", daemon=True)
        if self._pace is not None:
            self._thread.start()

    def add(self, run: Callable[[Pace], None]) -> None:
        """Queues a collection.

        Args:
            run: Scrubs it at the pace given.
        """
        self._queue.put(run)

    def close(self) -> None:
        """Stops within a moment; closing twice is harmless."""
        self._stopped.set()
        self._queue.put(None)
        if self._pace is not None:
            self._thread.join()

    def _run(self) -> None:
        # Linux gives each thread a niceness of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        assert self._pace is not None
        while (run := self._queue.get()) is not None and not self._stopped.is_set():
            try:
                run(self._pace)
            except (_StoppedError, Draining):
                continue
            except Exception:
                logger.exception("scrub failed")


def scrub(index: DerivedIndex, reader: RecordReader, dimension: int, pace: Pace) -> None:
    """Compares a collection's base and record with their checksums, and with each other.

    A damaged index is dropped and rebuilt; damaged vectors are read anew from the record; a damaged record takes
    searches out of service until it is written anew or deleted.

    Args:
        index: The collection's.
        reader: Reads its record.
        dimension: Width of its vectors.
        pace: How fast.

    Raises:
        Corrupted: The database itself is damaged.
    """
    base = index.base
    if base is not None:
        _scrub_vectors(base, pace)
        _scrub_index(index, base, pace)
    for row in _rows(reader, pace):
        _check_row(index, reader, row, base, dimension)


def _scrub_vectors(base: Base, pace: Pace) -> None:
    try:
        if base.rows.guard is not None and not base.rows.guard.is_whole:
            for byte_count in base.rows.guard.check_all():
                pace.spend(byte_count)
    except Unavailable:
        # The guard has told the index, which reads the record anew.
        return


def _scrub_index(index: DerivedIndex, base: Base, pace: Pace) -> None:
    if base.graph is None or base.index_crc32 is None or _checksum(base.folder / INDEX_FILE, pace) == base.index_crc32:
        return
    logger.error("index is damaged and will be rebuilt", extra={"folder": str(base.folder), "detail": INDEX_FILE})
    index.drop_index(base)


def _checksum(path: Path, pace: Pace) -> int | None:
    checksum = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                checksum = zlib.crc32(block, checksum)
                pace.spend(len(block))
    except FileNotFoundError:
        # Another base has taken its place.
        return None
    return checksum


def _rows(reader: RecordReader, pace: Pace) -> Iterator[RecordRow]:
    key = 0
    while page := reader.rows_after(key, _PAGE_RECORDS):
        yield from page
        key = page[-1].key
        pace.spend(sum(len(row.vector) + len(row.metadata) + len(row.id) for row in page))


def _check_row(index: DerivedIndex, reader: RecordReader, row: RecordRow, base: Base | None, dimension: int) -> None:
    try:
        vector = decode_vector(row, dimension)
    except Corrupted as error:
        name = row.id.decode("utf-8", "replace")
        logger.warning("record is damaged", extra={"key": row.key, "detail": error.message})
        index.mark_damaged(row.key, name, lambda: _is_damaged(reader, row.key, dimension))
        return
    if base is None or row.key > base.sequence or base is not index.base:
        return
    place = int(np.searchsorted(base.rows.keys, row.key))
    is_there = place < len(base.rows) and base.rows.keys[place] == row.key
    if not is_there or base.rows.vectors[place].tobytes() != vector.tobytes():
        # Each is whole by its own checksums, but they are not of the same collection's life.
        index.read_anew(base)


def _is_damaged(reader: RecordReader, key: int, dimension: int) -> bool:
    for row in reader.rows_after(key - 1, 1):
        try:
            decode_vector(row, dimension)
        except Corrupted:
            return row.key == key
    return False
