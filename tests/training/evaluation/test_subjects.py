"""Where an image subject takes its pixels from, and what floors compute."""

from __future__ import annotations

import numpy as np
import pytest

from models.bundle.encoder import Modality
from tests.training.evaluation.fakes import MeanColour, MemoryImages, mean_colour, plain_images
from training.corpora.document import Document
from training.corpora.splits import Split
from training.evaluation.batching import group_by_length
from training.evaluation.crops import make_crop
from training.evaluation.floors import centred_pixels, fit_tf_idf, raw_pixels
from training.evaluation.subjects import ImageSubject

COLOURS = [(255, 0, 0), (0, 255, 0), (10, 20, 30), (255, 255, 255)]
DATA = MemoryImages(plain_images(COLOURS), [Split.TRAIN, Split.TRAIN, Split.TEST, Split.TEST])


@pytest.mark.parametrize(
    ("size_px", "from_originals", "opened"), [(8, False, []), (8, True, [2, 0]), (16, False, [2, 0]), (None, True, [])]
)
def test_originals_are_read_where_packed_pixels_do_not_serve(
    size_px: int | None, from_originals: bool, opened: list[int]
) -> None:
    data = MemoryImages(DATA.pixels, DATA.splits)
    vectors = mean_colour(size_px=size_px).embed_images(data, np.array([2, 0]), from_originals=from_originals)
    assert data.opened == opened
    assert vectors == pytest.approx(np.array([[10, 20, 30], [255, 0, 0]]) / 127.5 - 1, abs=1e-6)


def test_images_are_embedded_in_batches_and_progress_is_told() -> None:
    encoder, told = MeanColour(), list[int]()
    subject = ImageSubject(mean_colour().info, encoder)
    subject.embed_images(DATA, np.zeros(300, dtype=np.int64), told.append)
    assert encoder.batches == told == [128, 128, 44]


def test_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split is empty"):
        mean_colour().embed_images(DATA, np.array([], dtype=np.int64))


def test_raw_pixels_are_the_pixels() -> None:
    vectors = raw_pixels(DATA).embed_images(DATA, np.array([2]))
    assert vectors.shape == (1, 8 * 8 * 3)
    assert vectors[0, :3] == pytest.approx(np.array([10, 20, 30]) / 255)


def test_raw_pixels_of_large_images_are_scaled_to_32() -> None:
    data = MemoryImages(plain_images(COLOURS, size_px=80), DATA.splits)
    assert raw_pixels(data).embed_images(data, np.array([0])).shape == (1, 32 * 32 * 3)


def test_raw_pixels_of_grey_images_keep_one_channel() -> None:
    data = MemoryImages(plain_images([(9, 9, 9), (40, 40, 40)]), [Split.TRAIN, Split.TEST])
    assert raw_pixels(data).embed_images(data, np.array([0])).shape == (1, 64)


def test_centred_pixels_subtract_the_training_mean() -> None:
    vectors = centred_pixels(DATA).embed_images(DATA, np.array([0, 1]))
    assert vectors.mean(axis=0) == pytest.approx(np.zeros(192), abs=1e-6)
    assert vectors[0, :3] == pytest.approx([0.5, -0.5, 0.0])


def test_centred_pixels_need_training_images() -> None:
    with pytest.raises(ValueError, match="train split has none"):
        centred_pixels(MemoryImages(DATA.pixels, [Split.TEST] * 4))


def test_tf_idf_weighs_rare_words_and_ignores_unknown_ones() -> None:
    documents = [Document("1", ("the cat",)), Document("2", ("the dog",)), Document("3", ("the end", "of it"))]
    floor = fit_tf_idf(documents, "print")
    vectors = floor.embed_texts(["the cat", "THE", "zebra"]).toarray()
    assert np.linalg.norm(vectors[:2], axis=1) == pytest.approx([1, 1])
    assert vectors[0].max() > vectors[0][vectors[1] > 0][0]  # cat outweighs the
    assert not vectors[2].any()
    assert floor.info.modality is Modality.TEXT


def test_tf_idf_is_identified_by_its_documents() -> None:
    documents = [Document("1", ("a word",))]
    assert fit_tf_idf(documents, "one").info.fingerprint != fit_tf_idf(documents, "two").info.fingerprint


def test_tf_idf_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="documents with words"):
        fit_tf_idf([], "none")


def test_lengths_are_grouped_within_the_budget() -> None:
    lengths = [5, 1, 9, 1, 30, 5]
    groups = list(group_by_length(lengths, budget=10))
    assert groups == [[1, 3], [0, 5], [2], [4]]


def test_crops_keep_the_size_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[:, :8] = 255
    crops = [make_crop(image, rng) for _ in range(40)]
    assert {crop.shape for crop in crops} == {(16, 16, 3)}
    bright = [crop.mean() / 255 for crop in crops]
    # Half to all of the area: between 0.29 and 0.71 of a crop can be bright, on either side.
    assert 0.25 < min(bright) < 0.45 < 0.55 < max(bright) < 0.75
    assert len({bool(crop[8, 1, 0] > 128) for crop in crops}) == 2
