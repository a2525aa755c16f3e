"""A disk that fails where it is told to, and that knows what a power loss leaves of what was written.

SQLite's files go through a VFS, all others through `os.fsync`, `os.rename` and `os.replace`, which are hooked. Bytes
reach the real files at once, so that everything works; what would survive is kept beside them, by inode: bytes when a
file is synced, names when their folder is.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from tests.faults.failure import Failure, raise_os_error
from tests.faults.vfs import WatchedVfs

__all__ = ["Disk", "Survival"]

PAGE = 4_096
SECTOR = 512


class Survival(StrEnum):
    """What a power loss leaves of what was never synced."""

    NOTHING = "nothing"
    SOME = "some"
    """Each page, each name and each size by chance."""
    TORN = "torn"
    """The same, and pages of which only the first sectors were written."""


@dataclass
class _File:
    """What is on the disk of one inode."""

    descriptor: int
    """Held open, so that no other file gets its number."""
    synced: bytes = b""
    dirty: set[int] = field(default_factory=set)
    """Pages written since, where they are known."""
    known: bool = False
    """Whether each write was seen; otherwise every page that differs counts as written."""
    lost: set[int] = field(default_factory=set)
    """Pages whose sync failed: the system takes them for clean, and no later sync writes them."""


@dataclass
class _Image:
    """The moment the power went."""

    bytes_of: dict[int, bytes]
    names_of: dict[int, dict[str, int]]
    folders: set[int]


class Disk:
    """Stands under all files of one folder while it is mounted.

    Args:
        root: An existing, empty folder.
        at: Number of the operation that fails, from 1 on; 0: none.
        failure: How.
        lasting: How many operations fail from there on; a power loss never ends.
    """

    def __init__(self, root: Path, *, at: int = 0, failure: Failure = Failure.IO, lasting: int = 1) -> None:
        self.root = root
        self.failure = failure
        self.log: list[str] = []
        """What was done, in order."""
        self._failing = range(at, at + lasting) if at else range(0)
        self._files: dict[int, _File] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._image: _Image | None = None
        self._lock = threading.RLock()
        self._real_fsync = os.fsync

    def mend(self) -> None:
        """From here on every operation succeeds."""
        self._failing = range(0)

    @contextmanager
    def mounted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
        """Puts it under SQLite and `os`."""
        rename, replace = os.rename, os.replace
        vfs = WatchedVfs(self)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", self._fsync)
            patch.setattr(os, "rename", lambda source, target: self._move(rename, source, target))
            patch.setattr(os, "replace", lambda source, target: self._move(replace, source, target))
            try:
                yield self
            finally:
                vfs.unregister()
        for file in self._files.values():
            os.close(file.descriptor)

    def step(self, kind: str, path: Path) -> Failure | None:
        """Counts an operation, and says whether it fails."""
        with self._lock:
            self.log.append(f"{kind} {path.relative_to(self.root)}")
            number = len(self.log)
            if self.failure is Failure.POWER and self._failing and number >= self._failing.start:
                self._image = self._image or self._take_image()
                return Failure.POWER
            return self.failure if number in self._failing else None

    def covers(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def wrote(self, path: Path, offset: int, size: int) -> None:
        """Notes which pages a write has made dirty."""
        with self._lock:
            pages = set(range(offset // PAGE, (offset + size + PAGE - 1) // PAGE))
            file = self._file(path)
            file.known = True
            file.dirty |= pages
            file.lost -= pages

    def synced(self, path: Path, *, with_name: bool = False) -> None:
        """Notes that a file's bytes are on the disk."""
        with self._lock:
            file = self._file(path)
            current = _read(file.descriptor)
            kept = bytearray(current)
            for page in file.lost:
                start, end = page * PAGE, min((page + 1) * PAGE, len(current))
                old = file.synced[start:end]
                kept[start:end] = old + bytes(max(0, end - start) - len(old))
            file.synced = bytes(kept)
            file.dirty.clear()
            if with_name:
                parent = self._inode(path.parent)
                self._names.setdefault(parent, {})[path.name] = self._inode(path)

    def sync_failed(self, path: Path) -> None:
        """Notes that a file's dirty pages are lost, as Linux loses them."""
        with self._lock:
            file = self._file(path)
            file.lost |= file.dirty
            file.dirty.clear()

    def forgotten(self, path: Path) -> None:
        """Notes that a name's removal is on the disk."""
        with self._lock:
            self._names.setdefault(self._inode(path.parent), {}).pop(path.name, None)

    def restore(self, target: Path, survival: Survival, rng: random.Random) -> None:
        """Writes what a power loss left: where it came, or where things stand now.

        Args:
            target: A folder to be made.
            survival: What is left of what was not synced.
            rng: Chance.
        """
        image = self._image or self._take_image()
        self._restore_folder(self._inode(self.root), target, image, survival, rng)

    def _restore_folder(self, inode: int, target: Path, image: _Image, survival: Survival, rng: random.Random) -> None:
        target.mkdir()
        synced, current = self._names.get(inode, {}), image.names_of.get(inode, {})
        for name in sorted({*synced, *current}):
            survives = survival is not Survival.NOTHING and rng.random() < 0.5
            child = (current if survives else synced).get(name)
            if child is None:
                continue
            if child in image.folders:
                self._restore_folder(child, target / name, image, survival, rng)
            else:
                (target / name).write_bytes(self._surviving_bytes(child, image, survival, rng))

    def _surviving_bytes(self, inode: int, image: _Image, survival: Survival, rng: random.Random) -> bytes:
        file, current = self._files.get(inode), image.bytes_of.get(inode, b"")
        synced = file.synced if file else b""
        if survival is Survival.NOTHING or current == synced:
            return synced
        kept = bytearray(max(len(synced), len(current)))
        kept[: len(synced)] = synced
        for start in range(0, len(current), PAGE):
            if file is not None and file.known and start // PAGE not in file.dirty:
                continue
            if rng.random() < 0.5:
                end = min(start + PAGE, len(current))
                if survival is Survival.TORN and rng.random() < 0.5:
                    end = min(end, start + SECTOR * rng.randrange(1, PAGE // SECTOR))
                kept[start:end] = current[start:end]
        return bytes(kept[: rng.choice([len(synced), len(current)])])

    def _take_image(self) -> _Image:
        image = _Image({}, {}, set())
        for folder, _, files in os.walk(self.root):
            here = self._inode(Path(folder))
            image.folders.add(here)
            image.names_of[here] = {}
            for entry in os.scandir(folder):
                image.names_of[here][entry.name] = entry.inode()
            for name in files:
                if not name.endswith("-shm"):
                    path = Path(folder, name)
                    image.bytes_of[self._inode(path)] = path.read_bytes()
        # The shared memory of SQLite is no file to rely on: every start makes it anew.
        for names in image.names_of.values():
            for name in [name for name in names if name.endswith("-shm")]:
                del names[name]
        return image

    def _file(self, path: Path) -> _File:
        inode = self._inode(path)
        if inode not in self._files:
            self._files[inode] = _File(os.open(path, os.O_RDONLY))
        return self._files[inode]

    def _inode(self, path: Path) -> int:
        return path.stat().st_ino

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not self.covers(path):
            self._real_fsync(descriptor)
            return
        raise_os_error(self.step("sync", path))
        with self._lock:
            if path.is_dir():
                self._file(path)
                self._names[self._inode(path)] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self.synced(path)

    def _move(self, move: Any, source: Any, target: Any) -> None:
        if self.covers(Path(target)):
            raise_os_error(self.step("rename", Path(target)))
        move(source, target)


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
