"""The downloader against a server that drops, refuses and lies."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from tests.training.corpora.registry.fake_registry import FakeRegistry
from training.corpora.registry.download import Pinned, download
from training.corpora.registry.sources import ChecksumError, DownloadError

CONTENT = random.Random(0).randbytes(1_000_000)
PINNED = Pinned(sha256=sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))


def fetch(url: str, target: Path, pinned: Pinned = PINNED) -> tuple[int, list[float]]:
    """Downloads; returns what the progress bar was told in sum, and the pauses."""
    amounts: list[int] = []
    pauses: list[float] = []
    with requests.Session() as session:
        download(url, target, pinned, session=session, advance=amounts.append, sleep=pauses.append)
    return sum(amounts), pauses


@pytest.fixture
def url(registry: FakeRegistry) -> str:
    registry.files["file"] = CONTENT
    return f"{registry.url}/file"


def test_a_file_arrives_whole(url: str, tmp_path: Path) -> None:
    shown, pauses = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert (shown, pauses) == (len(CONTENT), [])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dropped_connection_is_continued_where_it_broke(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    registry.drop_after = [600_000, 300_000]
    shown, pauses = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert registry.ranges[0] is None
    starts = [int(str(wanted).removeprefix("bytes=").removesuffix("-")) for wanted in registry.ranges[1:]]
    # What was still on its way when the connection broke may be lost, but no byte is asked for twice.
    assert len(starts) == 2
    assert 0 < starts[0] <= 600_000 < starts[1] <= 900_000
    assert shown == len(CONTENT)
    assert pauses == [0.5, 0.5]


def test_what_an_earlier_run_left_is_continued(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:700_000])
    shown, _ = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert registry.ranges == ["bytes=700000-"]
    assert shown == len(CONTENT)


def test_a_server_without_ranges_sends_all_of_it_again(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    registry.honours_ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:700_000])
    shown, _ = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert shown == len(CONTENT)


def test_a_part_of_another_file_is_thrown_away(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(bytes(700_000))
    shown, _ = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert registry.ranges == ["bytes=700000-", None]
    assert shown == len(CONTENT)


def test_other_bytes_are_refused_and_deleted(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    registry.files["file"] = CONTENT[:-1] + b"?"
    with pytest.raises(ChecksumError, match=f"not the pinned {PINNED.sha256}"):
        fetch(url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_pinned_are_refused(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    registry.files["file"] = CONTENT + b"?"
    with pytest.raises(ChecksumError, match="more comes than the pinned 1,000,000 bytes"):
        fetch(url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_not_asked_for_twice(registry: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answers 404"):
        fetch(f"{registry.url}/nothing", tmp_path / "file")
    assert registry.ranges == [None]


def test_a_busy_server_is_asked_again_with_growing_pauses(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    registry.statuses = [503, 503, 429]
    _, pauses = fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert pauses == [1.0, 2.0, 4.0]


def test_it_gives_up_without_progress_and_keeps_what_came(registry: FakeRegistry, url: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:10])
    registry.statuses = [503] * 100
    with pytest.raises(DownloadError, match=r"6 attempts.*503"):
        fetch(url, tmp_path / "file")
    assert len(registry.ranges) == 6
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:10]


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    # Port 9 (discard) is closed on any machine that runs tests.
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/file could not be fetched in 6 attempts"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file")


def test_a_local_file_is_copied_and_checked(tmp_path: Path) -> None:
    origin = tmp_path / "a folder" / "file"
    origin.parent.mkdir()
    origin.write_bytes(CONTENT)
    (tmp_path / "file.part").write_bytes(CONTENT[:5])
    shown, _ = fetch(origin.as_uri(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert shown == len(CONTENT)
    with pytest.raises(DownloadError, match="cannot be read: No such file"):
        fetch((tmp_path / "gone").as_uri(), tmp_path / "other")
