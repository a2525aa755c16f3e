"""The cache: fetched once, whole or not at all, whoever asks at the same time."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.training.corpora.registry.fake_registry import FakeRegistry, install_apt, make_deb, make_set, make_source
from training.corpora.registry.cache import acquire, cached_folder, default_cache
from training.corpora.registry.sources import ArchiveError, ChecksumError, ClientMissingError

ARCHIVE = make_deb({"data/one.txt": b"One.", "data/two.txt": b"Two."})
SET = make_set(make_source(ARCHIVE))


@pytest.fixture
def apt(registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    registry.files["words.deb"] = ARCHIVE
    install_apt(tmp_path / "bin", monkeypatch, f"{registry.url}/words.deb")
    return registry


def test_a_set_is_fetched_once_and_then_needs_nothing(
    apt: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert cached_folder(SET, cache) is None
    folder = acquire(SET, cache)
    assert (folder / "one.txt").read_bytes() == b"One."
    assert len(apt.ranges) == 1
    monkeypatch.setenv("PATH", "")
    assert acquire(SET, cache) == folder == cached_folder(SET, cache)
    assert len(apt.ranges) == 1
    assert list((cache / "archives").iterdir()) == []


def test_a_set_that_lost_a_file_is_fetched_again(apt: FakeRegistry, tmp_path: Path) -> None:
    folder = acquire(SET, tmp_path / "cache")
    (folder / "two.txt").unlink()
    assert acquire(SET, tmp_path / "cache") == folder
    assert (folder / "two.txt").read_bytes() == b"Two."
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_those_who_ask_together_share_one_download(apt: FakeRegistry, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: acquire(SET, tmp_path / "cache"), range(8)))
    assert len(set(folders)) == 1
    assert len(apt.ranges) == 1


def test_another_version_has_another_folder(apt: FakeRegistry, tmp_path: Path) -> None:
    changed = make_set(make_source(ARCHIVE, members=("data/one.txt",)))
    assert acquire(SET, tmp_path / "cache") != acquire(changed, tmp_path / "cache")


def test_a_wrong_checksum_names_the_way_by_hand_and_leaves_nothing(apt: FakeRegistry, tmp_path: Path) -> None:
    apt.files["words.deb"] = ARCHIVE[:-1] + b"?"
    with pytest.raises(ChecksumError, match=r"or bring words_1\.0_all\.deb \(sha256 [0-9a-f]{64}\) here yourself"):
        acquire(SET, tmp_path / "cache")
    assert cached_folder(SET, tmp_path / "cache") is None
    assert list((tmp_path / "cache" / "archives").iterdir()) == []


def test_an_archive_brought_by_hand_needs_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    archives = tmp_path / "cache" / "archives"
    archives.mkdir(parents=True)
    (archives / "words_1.0_all.deb").write_bytes(ARCHIVE)
    assert (acquire(SET, tmp_path / "cache") / "one.txt").read_bytes() == b"One."


def test_a_wrong_archive_brought_by_hand_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    archives = tmp_path / "cache" / "archives"
    archives.mkdir(parents=True)
    (archives / "words_1.0_all.deb").write_bytes(b"something else")
    with pytest.raises(ClientMissingError, match="apt-get is not installed"):
        acquire(SET, tmp_path / "cache")


def test_a_set_of_two_archives_appears_only_when_both_are_good(apt: FakeRegistry, tmp_path: Path) -> None:
    bad = make_source(ARCHIVE, "other_1.0_all.deb", members=("nothing/*",), into="other")
    with pytest.raises(ArchiveError, match="holds nothing named"):
        acquire(make_set(make_source(ARCHIVE), bad), tmp_path / "cache")
    assert list((tmp_path / "cache" / "sets").iterdir()) == []


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("DIPTYCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "diptych"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "diptych"


def test_a_removed_cache_is_made_anew(apt: FakeRegistry, tmp_path: Path) -> None:
    acquire(SET, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert (acquire(SET, tmp_path / "cache") / "one.txt").exists()
