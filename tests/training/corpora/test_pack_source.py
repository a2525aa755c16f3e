"""What a user names is read as what it is."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.training.corpora.pictures import noise, png
from training.corpora.pack_source import SourceKind, pack_image_source, pack_text_source, source_kind
from training.corpora.readers.text_files import CorpusError, JsonKeys


def test_kinds_of_sources(tmp_path: Path) -> None:
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "deep" / "a.txt").touch()
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.png").touch()
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "data_batch_1.bin").touch()
    assert source_kind(str(tmp_path / "texts")) is SourceKind.TEXT
    assert source_kind(str(tmp_path / "texts" / "deep" / "a.txt")) is SourceKind.TEXT
    assert source_kind(str(tmp_path / "images")) is SourceKind.IMAGE
    assert source_kind(str(tmp_path / "cifar")) is SourceKind.IMAGE
    assert (source_kind("wiki"), source_kind("emoji")) == (SourceKind.TEXT, SourceKind.IMAGE)


def test_sources_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="neither a path nor a packaged set; the sets are: wiki"):
        source_kind(str(tmp_path / "gone"))
    with pytest.raises(CorpusError, match="holds neither texts"):
        source_kind(str(tmp_path))
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.png").touch()
    with pytest.raises(CorpusError, match="holds texts and images; say which by --kind"):
        source_kind(str(tmp_path))
    with pytest.raises(CorpusError, match="minilm is a model, not data"):
        source_kind("minilm")


def test_texts_are_packed_with_the_keys_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "One. Two."}\n{"body": "Three."}\n')
    pack = pack_text_source(str(tmp_path / "a.jsonl"), tmp_path / "pack", keys=JsonKeys(text="body"))
    assert [document.sentences for document in pack.documents()] == [("One.", "Two."), ("Three.",)]


def test_a_folder_of_idx_files_is_packed(tmp_path: Path) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    for part in ("train", "t10k"):
        header = bytes((0, 0, 8, 3)) + struct.pack(">3i", 2, 28, 28)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x01\x02"))
    pack, report = pack_image_source(str(tmp_path), tmp_path / "pack", size_px=28)
    assert pack.label_names == ("Pullover", "Trouser")
    assert np.array_equal(pack.read(np.array([1]))[0, :, :, 0], images[1])
    assert not report.images


def test_the_place_is_checked_before_the_work(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(png(noise(0)))
    taken = tmp_path / "pack"
    taken.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        pack_image_source("a folder that is not even there", taken, size_px=8)
    with pytest.raises(ValueError, match="exists already"):
        pack_text_source("a folder that is not even there", taken)
