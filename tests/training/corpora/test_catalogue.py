"""The table of packaged sets is sound, and a made-up cache is enough to use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.corpora import catalogue
from training.corpora.catalogue import CATALOGUE, fetch, find_set
from training.corpora.readers.packaged_images import IMAGE_READERS
from training.corpora.readers.packaged_texts import TEXT_READERS
from training.corpora.registry.sources import Registry, SetKind


def test_every_source_is_pinned_to_the_byte() -> None:
    endings = {Registry.PYPI: ".whl", Registry.NPM: ".tgz", Registry.DEBIAN: ".deb"}
    for packaged in CATALOGUE.values():
        assert packaged.licence
        for source in packaged.sources:
            assert re.fullmatch("[0-9a-f]{64}", source.sha256)
            assert source.size_bytes > 1_000_000
            assert source.filename.endswith(endings[source.registry])
            assert source.version in source.filename
            assert all(member.startswith(source.strip) for member in source.members)


def test_every_set_of_data_has_a_reader() -> None:
    kinds = {name: packaged.kind for name, packaged in CATALOGUE.items()}
    assert {name for name, kind in kinds.items() if kind is SetKind.TEXT} == set(TEXT_READERS)
    assert {name for name, kind in kinds.items() if kind is SetKind.IMAGE} == set(IMAGE_READERS)
    assert {name for name, kind in kinds.items() if kind is SetKind.MODEL} == {"minilm", "efficientnet-lite0"}


def test_the_room_names_no_registry_host() -> None:
    root = Path(catalogue.__file__).parent
    hosts = re.compile(r"pypi\.org|pythonhosted|npmjs|registry\.yarnpkg|debian\.org|deb\.debian")
    assert [path.name for path in root.rglob("*.py") if hosts.search(path.read_text(encoding="utf-8"))] == []


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no packaged set 'wikki'; there are: wiki, sotu, moby-dick"):
        find_set("wikki")
    with pytest.raises(ValueError, match="no packaged set 'wikki'"):
        fetch("wikki", tmp_path)
