"""One downloader: resumes where it stopped, tries again, and lets only the pinned bytes through."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from training.corpora.progress import Advance
from training.corpora.registry.sources import ChecksumError, DownloadError
from training.publish import sync_path

__all__ = ["Pinned", "download", "file_sha256"]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = (15.0, 60.0)
_HOPELESS = frozenset({400, 401, 403, 404, 405, 410, 451})
_ATTEMPTS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Pinned:
    """The file that is expected."""

    sha256: str
    """In hexadecimal."""
    size_bytes: int
    """Exact."""


class _TransientError(Exception):
    """The transfer stopped for a reason that may pass."""


def download(
    url: str,
    destination: Path,
    pinned: Pinned,
    *,
    session: requests.Session,
    advance: Advance,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Brings a file here; what has come of an interrupted one (`destination` + `.part`) is continued by the next call.

    Args:
        url: `https:`, `http:` or `file:`.
        destination: Where the finished, verified file appears in one step.
        pinned: What it must be.
        session: Carries the user's certificates and proxy.
        advance: Told of each amount of bytes.
        sleep: Waits for seconds; the pause doubles from 0.5 s while not a single new byte comes, six times.

    Raises:
        DownloadError: The address cannot be reached or refuses; what came so far stays for the next call.
        ChecksumError: The bytes are not the pinned ones; they are deleted.
    """
    part = destination.with_name(destination.name + ".part")
    continued = part.exists()
    _transfer(url, part, pinned, session=session, advance=advance, sleep=sleep)
    if continued and file_sha256(part) != pinned.sha256:
        # The beginning may stem from another file of that name: once more, all of it.
        advance(-part.stat().st_size)
        part.unlink()
        _transfer(url, part, pinned, session=session, advance=advance, sleep=sleep)
    found = file_sha256(part)
    if found != pinned.sha256:
        part.unlink()
        raise ChecksumError(
            f"{url} has sha256 {found}, not the pinned {pinned.sha256}: a mirror or proxy altered it; it was deleted"
        )
    sync_path(part)
    part.replace(destination)


def file_sha256(path: Path) -> str:
    """Hashes a file's bytes.

    Args:
        path: The file.

    Returns:
        Its sha256 in hexadecimal.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer(
    url: str,
    part: Path,
    pinned: Pinned,
    *,
    session: requests.Session,
    advance: Advance,
    sleep: Callable[[float], None],
) -> None:
    if part.exists() and part.stat().st_size > pinned.size_bytes:
        part.unlink()
    advance(_size(part))
    failures = 0
    while _size(part) < pinned.size_bytes:
        before = _size(part)
        try:
            _append(_chunks(url, part, session, advance), part, pinned, advance)
            if _size(part) < pinned.size_bytes:
                raise _TransientError(f"it ended after {_size(part):,} of {pinned.size_bytes:,} bytes")
        except (requests.RequestException, urllib3.exceptions.HTTPError, _TransientError) as error:
            failures = failures + 1 if _size(part) <= before else 0
            if failures >= _ATTEMPTS:
                raise DownloadError(f"{url} could not be fetched in {failures} attempts: {error}") from error
            sleep(0.5 * 2.0**failures)


def _append(chunks: Iterator[bytes], part: Path, pinned: Pinned, advance: Advance) -> None:
    # The first chunk decides, in `_chunks`, whether the part is continued or begun again: open the file after it.
    first = next(chunks, b"")
    with part.open("ab") as file:
        chunk = first
        while chunk:
            file.write(chunk)
            advance(len(chunk))
            if file.tell() > pinned.size_bytes:
                file.close()
                part.unlink()
                raise ChecksumError(f"more comes than the pinned {pinned.size_bytes:,} bytes: it is another file")
            chunk = next(chunks, b"")


def _chunks(url: str, part: Path, session: requests.Session, advance: Advance) -> Iterator[bytes]:
    if urlsplit(url).scheme == "file":
        yield from _file_chunks(url, _size(part))
        return
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code in _HOPELESS:
            raise DownloadError(f"{url} answers {response.status_code} {response.reason}; check the access to it")
        if response.status_code not in {200, 206}:
            if response.status_code == 416:
                _discard(part, advance)
            raise _TransientError(f"it answers {response.status_code} {response.reason}")
        if have and not _continues(response, have):
            _discard(part, advance)
        yield from response.iter_content(_CHUNK_BYTES)


def _continues(response: requests.Response, have: int) -> bool:
    """A server may ignore the range and send all of it (200), or another range than asked for."""
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _file_chunks(url: str, start: int) -> Iterator[bytes]:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}") from error


def _discard(part: Path, advance: Advance) -> None:
    advance(-_size(part))
    part.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
