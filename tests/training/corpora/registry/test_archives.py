"""Archives give the listed files and nothing else, whatever they claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.training.corpora.registry.fake_registry import make_deb, make_source, make_tar, make_wheel
from training.corpora.registry.archives import extract
from training.corpora.registry.sources import ArchiveError, Source

MAKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "words-1.0-py3-none-any.whl": make_wheel,
    "words-1.0.tgz": make_tar,
    "words_1.0_all.deb": make_deb,
}
KINDS = pytest.mark.parametrize("filename", list(MAKERS))


def extracted(content: bytes, source: Source, folder: Path) -> dict[str, bytes]:
    archive = folder / "archive"
    archive.write_bytes(content)
    extract(archive, source, folder / "out")
    files = (folder / "out").rglob("*")
    return {path.relative_to(folder / "out").as_posix(): path.read_bytes() for path in files if path.is_file()}


@KINDS
def test_only_the_listed_files_come_out(filename: str, tmp_path: Path) -> None:
    content = MAKERS[filename]({"data/a.txt": b"A", "data/deep/b.txt": b"B", "data/c.bin": b"C", "setup.py": b"run me"})
    source = make_source(content, filename, members=("data/*.txt",))
    assert extracted(content, source, tmp_path) == {"a.txt": b"A", "deep/b.txt": b"B"}


@KINDS
def test_a_source_can_go_into_a_folder_of_its_own(filename: str, tmp_path: Path) -> None:
    content = MAKERS[filename]({"data/a.txt": b"A"})
    assert extracted(content, make_source(content, filename, into="left/right"), tmp_path) == {"left/right/a.txt": b"A"}


@KINDS
@pytest.mark.parametrize("name", ["data/../../evil", "data//etc/evil", "data/a\\..\\evil"])
def test_a_path_that_leads_out_is_refused(filename: str, name: str, tmp_path: Path) -> None:
    content = MAKERS[filename]({name: b"evil"})
    with pytest.raises(ArchiveError, match="leads out of its folder"):
        extracted(content, make_source(content, filename), tmp_path)
    assert not [path for path in tmp_path.rglob("evil*")]


@pytest.mark.parametrize(("filename", "make"), [("w.tgz", make_tar), ("w.deb", make_deb)])
def test_a_link_is_refused(filename: str, make: Callable[[Mapping[str, bytes | str]], bytes], tmp_path: Path) -> None:
    content = make({"data/passwd": "/etc/passwd"})
    with pytest.raises(ArchiveError, match="as a link or device"):
        extracted(content, make_source(content, filename), tmp_path)


@KINDS
def test_a_pattern_that_finds_nothing_is_named(filename: str, tmp_path: Path) -> None:
    content = MAKERS[filename]({"data/a.txt": b"A"})
    source = make_source(content, filename, members=("data/*", "labels.json"))
    with pytest.raises(ArchiveError, match=r"holds nothing named labels\.json"):
        extracted(content, source, tmp_path)


@KINDS
def test_a_damaged_archive_is_named(filename: str, tmp_path: Path) -> None:
    content = MAKERS[filename]({"data/a.txt": b"A" * 1000})[:-300][:90]
    with pytest.raises(ArchiveError, match="archive"):
        extracted(content, make_source(content, filename), tmp_path)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"known are \.whl, \.tgz and \.deb"):
        extracted(b"", make_source(b"", "words.rar"), tmp_path)
