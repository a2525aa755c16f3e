"""Looks for damage in a write-ahead log, which SQLite takes for the log's end: what was written behind it is lost."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Literal

__all__ = ["log_fault"]

_HEADER = struct.Struct(">IIIIIIII")
_FRAME_HEADER = struct.Struct(">IIIIII")
_MAGIC = {0x377F0682: "little", 0x377F0683: "big"}
_WORDS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}

Sums = tuple[int, int]


def log_fault(path: Path) -> str:
    """Says what is wrong with a write-ahead log.

    Its frames are chained by checksums. Where one does not hold and a later one still has the log's marks, the log goes
    on behind it; where none does, the log ends there, as it does after a crash.

    Args:
        path: `…-wal`; may be missing.

    Returns:
        One sentence; empty where nothing is wrong.

    Source: https://www.sqlite.org/fileformat2.html#walformat
    """
    if not path.exists() or path.stat().st_size < _HEADER.size:
        return ""
    with path.open("rb") as file:
        return _fault_in(file, path)


def _fault_in(file: BinaryIO, path: Path) -> str:
    header = file.read(_HEADER.size)
    if not any(header):
        return ""
    magic, _, page_bytes, _, salt_1, salt_2, *stored = _HEADER.unpack(header)
    order = _WORDS.get(_MAGIC.get(magic, ""), "<")
    sums = _summed(header[:24], (0, 0), order)
    if magic not in _MAGIC or sums != tuple(stored) or not 512 <= page_bytes <= 65_536:
        return f"the header of {path.name} is damaged: everything in it is lost"
    frame_bytes = _FRAME_HEADER.size + page_bytes
    count = (path.stat().st_size - _HEADER.size) // frame_bytes
    broken = 0
    for number in range(1, count + 1):
        frame = file.read(frame_bytes)
        is_marked = _FRAME_HEADER.unpack_from(frame)[2:4] == (salt_1, salt_2)
        if broken:
            if is_marked:
                return f"frame {broken} of {count} of {path.name} is damaged: what was written from there on is lost"
            continue
        sums = _summed(frame[24:], _summed(frame[:8], sums, order), order)
        if not is_marked or sums != _FRAME_HEADER.unpack_from(frame)[4:6]:
            broken = number
    return ""


def _summed(data: bytes, sums: Sums, order: Literal["<", ">"]) -> Sums:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
