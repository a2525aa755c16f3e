"""A registry in this process: an HTTP server that can drop, refuse and ignore as real ones do, and a fake apt-get."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from training.corpora.registry.sources import PackagedSet, Registry, SetKind, Source


@dataclass
class FakeRegistry:
    """Serves `files`; each request is noted in `ranges` by its Range header."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    drop_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off, one entry a request."""
    statuses: list[int] = field(default_factory=list)
    """What the next requests are refused with."""
    honours_ranges: bool = True
    url: str = ""


def _handler(registry: FakeRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            registry.ranges.append(wanted)
            if registry.statuses:
                self.send_error(registry.statuses.pop(0))
                return
            content = registry.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted is not None and registry.honours_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: registry.drop_after.pop(0)] if registry.drop_after else body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry))
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def install_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Makes an `apt-get` that says where a package is, the only program on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "apt-get"
    script.write_text(f"#!/bin/sh\necho \"'{url}' name.deb 1 SHA256:0\"\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def make_wheel(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
    return stream.getvalue()


def make_tar(members: Mapping[str, bytes | str], mode: str = "w:gz") -> bytes:
    """Makes a tarball; a member whose content is a `str` becomes a symbolic link to it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]  # a mode that is no literal
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def make_deb(members: Mapping[str, bytes | str]) -> bytes:
    """Makes a Debian package: an ar file of a version, a control part of odd length, and the data."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": make_tar(members, "w:xz")}
    content = b"!<arch>\n"
    for name, part in parts.items():
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
        )
    return content


def make_source(archive: bytes, filename: str = "words_1.0_all.deb", **changes: Any) -> Source:
    values: dict[str, Any] = {
        "registry": Registry.DEBIAN,
        "package": "words",
        "version": "1.0",
        "filename": filename,
        "sha256": sha256(archive).hexdigest(),
        "size_bytes": len(archive),
        "members": ("data/*",),
        "strip": "data/",
    }
    return Source(**(values | changes))


def make_set(*sources: Source) -> PackagedSet:
    return PackagedSet(name="words", kind=SetKind.TEXT, summary="words", licence="MIT", sources=sources)
