"""The user's own pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.corpora.readers.image_folder import read_image_folder
from training.corpora.readers.text_files import CorpusError
from training.corpora.splits import Split


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_first_folder_names_the_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.PNG", "cat/deep/er/b.jpeg", "dog/c.webp", "d.gif", "readme.txt", "dog/labels.csv")
    items = list(read_image_folder(tmp_path))
    assert [(item.id, item.label) for item in items] == [
        ("cat/a.PNG", "cat"),
        ("cat/deep/er/b.jpeg", "cat"),
        ("d.gif", None),
        ("dog/c.webp", "dog"),
    ]
    assert items[0].content == tmp_path / "cat" / "a.PNG"
    assert {item.split for item in items} == {None}


def test_the_image_folder_layout_gives_the_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.png", "val/dog/b.png", "test/cat/c.png")
    assert [(item.label, item.split) for item in read_image_folder(tmp_path)] == [
        ("cat", Split.TEST),
        ("cat", Split.TRAIN),
        ("dog", Split.VALIDATION),
    ]


def test_a_class_that_is_called_train_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "bus/b.png")
    assert [(item.label, item.split) for item in read_image_folder(tmp_path)] == [("bus", None), ("train", None)]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no image that ends in \.bmp"):
        list(read_image_folder(tmp_path))
    with pytest.raises(CorpusError, match="is no folder"):
        list(read_image_folder(tmp_path / "gone"))
