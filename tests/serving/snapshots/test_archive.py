"""The form in which a snapshot travels: any tar reader opens it, and only its own exact bytes are taken back."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.collections.types import CollectionSpec
from serving.errors import Corrupted, FailedPrecondition, InvalidInput, ServingError
from serving.snapshots.archive import ArchiveReader, ArchiveReceiver, archive_size
from serving.snapshots.manifest import MANIFEST_FILE, RECORDS_FILE, FileSeal, SnapshotManifest

CONTENT = bytes(range(256)) * 5


def manifest_of(content: bytes = CONTENT) -> SnapshotManifest:
    return SnapshotManifest(
        spec=CollectionSpec(name="notes", space="s", dimension=2),
        uid="u",
        sequence=3,
        record_count=2,
        create_time=datetime(2026, 1, 2, tzinfo=UTC),
        files={RECORDS_FILE: FileSeal(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())},
    )


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / RECORDS_FILE).write_bytes(CONTENT)
    (folder / MANIFEST_FILE).write_bytes(manifest_of().to_json())
    reader = ArchiveReader(folder, manifest_of())
    whole = b"".join(reader.pieces())
    for offset in (0, 1, 511, 512, 513, 1_500, len(whole) - 1_025, len(whole) - 1, len(whole)):
        assert b"".join(reader.pieces(offset)) == whole[offset:]
    reader.close()
    assert archive_size(manifest_of()) == len(whole)
    return whole


def receive(folder: Path, data: bytes, *, piece: int = 1 << 20, size: int | None = None, sha256: str = "") -> Path:
    target = folder / f"arrived-{len(list(folder.iterdir()))}"
    target.mkdir()
    receiver = ArchiveReceiver(
        target, size_bytes=len(data) if size is None else size, sha256=sha256 or hashlib.sha256(data).hexdigest()
    )
    try:
        for start in range(0, len(data), piece):
            receiver.feed(data[start : start + piece])
        receiver.finish()
    finally:
        receiver.close()
    return target


def test_any_tar_reader_opens_it(archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [MANIFEST_FILE, RECORDS_FILE]
        member = tar.extractfile(RECORDS_FILE)
        assert member is not None
        assert member.read() == CONTENT


@pytest.mark.parametrize("piece", [1, 7, 512, 1_000, 1 << 20])
def test_it_arrives_whole_however_it_is_cut(archive: bytes, tmp_path: Path, piece: int) -> None:
    arrived = receive(tmp_path, archive, piece=piece)
    assert (arrived / RECORDS_FILE).read_bytes() == CONTENT
    assert (arrived / MANIFEST_FILE).read_bytes() == manifest_of().to_json()
    assert sorted(path.name for path in arrived.iterdir()) == [MANIFEST_FILE, RECORDS_FILE]


def test_an_archive_of_an_older_diptych_keeps_its_bytes(tmp_path: Path, archive: bytes) -> None:
    fields = json.loads(manifest_of().to_json())
    del fields["collection"]["display_name"]  # as if the field had come later
    text = json.dumps(fields).encode()
    arrived = receive(tmp_path, pack([(MANIFEST_FILE, text), (RECORDS_FILE, CONTENT)]))
    manifest = SnapshotManifest.from_json((arrived / MANIFEST_FILE).read_bytes())
    assert manifest.to_json() == text
    assert manifest.spec.display_name == ""


def pack(members: list[tuple[str, bytes]], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    parts = []
    for name, content in members:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.type = len(content), 0o644, kind
        parts.append(entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    return b"".join(parts) + bytes(1_024)


def evil_manifest(name: str) -> bytes:
    return manifest_of().to_json().replace(RECORDS_FILE.encode(), name.encode())


HOSTILE: dict[str, Callable[[], bytes]] = {
    "another first name": lambda: pack([("other.json", manifest_of().to_json()), (RECORDS_FILE, CONTENT)]),
    "another order": lambda: pack([(RECORDS_FILE, CONTENT), (MANIFEST_FILE, manifest_of().to_json())]),
    "a path upwards": lambda: pack([(MANIFEST_FILE, evil_manifest("../evil")), ("../evil", CONTENT)]),
    "an absolute path": lambda: pack([(MANIFEST_FILE, evil_manifest("/tmp/evil")), ("/tmp/evil", CONTENT)]),
    "a name that the manifest lacks": lambda: pack(
        [(MANIFEST_FILE, manifest_of().to_json()), ("../evil", CONTENT), (RECORDS_FILE, CONTENT)]
    ),
    "a link": lambda: pack([(MANIFEST_FILE, manifest_of().to_json()), (RECORDS_FILE, b"")], kind=tarfile.SYMTYPE),
    "other content": lambda: pack([(MANIFEST_FILE, manifest_of().to_json()), (RECORDS_FILE, CONTENT[::-1])]),
    "shorter content": lambda: pack([(MANIFEST_FILE, manifest_of().to_json()), (RECORDS_FILE, CONTENT[:-1])]),
    "a further member": lambda: pack(
        [(MANIFEST_FILE, manifest_of().to_json()), (RECORDS_FILE, CONTENT), ("more", b"x")]
    ),
    "no JSON": lambda: pack([(MANIFEST_FILE, b"{"), (RECORDS_FILE, CONTENT)]),
    "no object": lambda: pack([(MANIFEST_FILE, b"[1]"), (RECORDS_FILE, CONTENT)]),
    "an endless manifest": lambda: pack([(MANIFEST_FILE, b" " * (2 << 20))]),
    "no tar": lambda: b"x" * 2_048,
    "nothing": lambda: bytes(2_048),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_is_not_an_archive_of_ours_is_refused(tmp_path: Path, what: str) -> None:
    with pytest.raises(ServingError) as caught:
        receive(tmp_path, HOSTILE[what](), piece=600)
    assert isinstance(caught.value, InvalidInput | Corrupted)
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil").exists()


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    text = manifest_of().to_json().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(FailedPrecondition, match="format 2, this diptych reads up to 1; upgrade"):
        receive(tmp_path, pack([(MANIFEST_FILE, text), (RECORDS_FILE, CONTENT)]))


def test_what_arrives_must_be_what_was_said(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(Corrupted, match="not 0000"):
        receive(tmp_path, archive, sha256="0" * 64)
    with pytest.raises(Corrupted, match=r"of \d+ bytes of the snapshot arrived"):
        receive(tmp_path, archive[:-1], size=len(archive), sha256=hashlib.sha256(archive).hexdigest())
    with pytest.raises(InvalidInput, match="longer than its"):
        receive(tmp_path, archive + b"x", size=len(archive), sha256=hashlib.sha256(archive).hexdigest())
    with pytest.raises(InvalidInput, match="after its end"):
        receive(tmp_path, archive + b"x")
    flipped = bytearray(archive)
    flipped[1_400] ^= 1
    with pytest.raises(ServingError):
        receive(tmp_path, bytes(flipped))


def test_a_file_that_is_missing_or_shorter_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(manifest_of().to_json())
    with pytest.raises(Corrupted, match=r"records.sqlite of the snapshot is missing"):
        ArchiveReader(tmp_path, manifest_of())
    (tmp_path / RECORDS_FILE).write_bytes(CONTENT[:-1])
    with pytest.raises(Corrupted, match="has 1279 bytes, not 1280"):
        ArchiveReader(tmp_path, manifest_of())
