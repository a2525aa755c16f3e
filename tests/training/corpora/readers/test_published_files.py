"""IDX and CIFAR-10 files, small and made up."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.pixels import decode_image
from training.corpora.image_items import ImageItem
from training.corpora.readers.cifar import is_cifar_folder, read_cifar
from training.corpora.readers.fashion_mnist import is_idx_folder, read_fashion_mnist, read_idx
from training.corpora.readers.text_files import CorpusError
from training.corpora.splits import Split

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 8], dtype=np.uint8)


def write_idx(file: Path, values: NDArray[np.uint8]) -> None:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}i", *values.shape)
    file.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    for part, count in (("train", 5), ("t10k", 2)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", IMAGES[:count])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", LABELS[:count])
    return tmp_path


def pixels(item: ImageItem) -> NDArray[np.uint8]:
    assert isinstance(item.content, bytes)
    return decode_image(item.content)


def test_idx_images_come_with_class_and_published_part(idx_folder: Path) -> None:
    assert is_idx_folder(idx_folder)
    items = list(read_fashion_mnist(idx_folder))
    assert [item.id for item in items[3:]] == ["train/00003", "train/00004", "test/00000", "test/00001"]
    assert [item.label for item in items[:3]] == ["Ankle boot", "T-shirt/top", "Dress"]
    assert [item.split for item in items] == [Split.TRAIN] * 5 + [Split.TEST] * 2
    grey = pixels(items[2])
    assert np.array_equal(grey, np.repeat(IMAGES[2][:, :, None], 3, axis=2))


def test_labels_that_do_not_fit_are_refused(idx_folder: Path) -> None:
    write_idx(idx_folder / "train-labels-idx1-ubyte.gz", LABELS[:4])
    with pytest.raises(CorpusError, match="5 train images and 4 labels that do not fit"):
        list(read_fashion_mnist(idx_folder))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x09abc"), r"holds 3 values where its shape \(9,\) needs 9"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"), "is no IDX file of bytes"),
        (gzip.compress(b"hello")[:-6], "cannot be read"),
    ],
    ids=["not gzip", "too short", "not bytes", "truncated"],  # gzip writes the time: no name for a test
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(CorpusError, match=complaint):
        read_idx(tmp_path / "a.gz")


def test_cifar_planes_become_pixels(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    record = b"".join(bytes([label]) + image.tobytes() for label, image in zip((3, 9), colours, strict=True))
    (tmp_path / "data_batch_1.bin").write_bytes(record)
    (tmp_path / "test_batch.bin").write_bytes(record[: 1 + 3072])
    assert is_cifar_folder(tmp_path)
    items = list(read_cifar(tmp_path))
    assert [(item.id, item.label, item.split) for item in items] == [
        ("data_batch_1/00000", "cat", Split.TRAIN),
        ("data_batch_1/00001", "truck", Split.TRAIN),
        ("test_batch/00000", "cat", Split.TEST),
    ]
    assert np.array_equal(pixels(items[1]), colours[1].transpose(1, 2, 0))


def test_a_cifar_file_of_broken_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3072))
    with pytest.raises(CorpusError, match="3,072 bytes, which are not whole records of 3,073"):
        list(read_cifar(tmp_path))
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(CorpusError, match="record 0 has the label 10"):
        list(read_cifar(tmp_path))


def test_the_pickled_cifar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").touch()
    assert is_cifar_folder(tmp_path)
    with pytest.raises(CorpusError, match=r"pickled version .* take the binary version"):
        list(read_cifar(tmp_path))
