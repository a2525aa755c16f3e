from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.corpora.pictures import noise, png
from training.corpora.document import Document
from training.corpora.duplicates import find_image_duplicates, find_text_duplicates
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import Split, SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack

FRACTIONS = SplitFractions(validation=0.2, test=0.2)


def image_pack(folder: Path, images: dict[str, np.ndarray]) -> ImagePack:
    items = [ImageItem(name, png(pixels)) for name, pixels in images.items()]
    return write_image_pack(items, folder, size_px=16, source="test", fractions=FRACTIONS)[0]


def sides(pack: ImagePack) -> tuple[str, str]:
    """Names of a training image and of a test image."""
    return tuple(pack.ids[int(pack.indices(split)[0])] for split in (Split.TRAIN, Split.TEST))  # type: ignore[return-value]  # two of two


def test_copies_across_the_division_are_named(tmp_path: Path) -> None:
    images = {f"{number}": noise(number, 16, 16) for number in range(60)}
    trained, tested = sides(image_pack(tmp_path / "first", images))
    # A brighter copy with a little noise: the same picture, saved again.
    again = images[trained].astype(float) * 0.9 + 12 + np.random.default_rng(0).normal(0, 2, (16, 16, 3))
    images[tested] = again.clip(0, 255).astype(np.uint8)

    report = find_image_duplicates(image_pack(tmp_path / "second", images))

    assert (report.items, report.exact, report.near) == (60, 0, 2)
    assert report.leaked == {"validation": 0, "test": 1}
    [(held_out, training, likeness)] = report.pairs
    assert (held_out, training) == (tested, trained)
    assert likeness > 0.995


def test_equal_images_are_counted_beyond_the_first_and_plain_ones_are_not_alike(tmp_path: Path) -> None:
    images = {f"{number}": noise(number % 20, 16, 16) for number in range(40)}
    images |= {f"plain {value}": np.full((16, 16, 3), value, dtype=np.uint8) for value in (0, 90, 200)}

    report = find_image_duplicates(image_pack(tmp_path / "pack", images))

    assert (report.exact, report.near) == (20, 40)


def test_noise_of_other_seeds_is_no_copy(tmp_path: Path) -> None:
    report = find_image_duplicates(image_pack(tmp_path / "pack", {f"{n}": noise(n, 16, 16) for n in range(50)}))
    assert (report.exact, report.near, report.leaked) == (0, 0, {"validation": 0, "test": 0})
    with pytest.raises(ValueError, match=r"threshold \(1\.5\)"):
        find_image_duplicates(ImagePack.open(tmp_path / "pack"), threshold=1.5)


def test_sentences_that_training_has_seen_are_counted(tmp_path: Path) -> None:
    documents = [Document(f"{number}", (f"Sentence {number}.", "All rights  reserved.")) for number in range(30)]
    documents[7] = Document("7", ("Sentence 7.", "all rights reserved."))

    report = find_text_duplicates(write_text_pack(documents, tmp_path / "pack", source="test", fractions=FRACTIONS))

    pack = TextPack.open(tmp_path / "pack")
    held_out = {str(split): len(pack.documents(split)) for split in (Split.VALIDATION, Split.TEST)}
    assert report.items == 60
    assert (report.exact, report.near) == (28, 30)
    assert report.leaked == held_out
    assert {pair[0] for pair in report.pairs} <= {str(number) for number in range(30)}
