from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from training.batches.support import SupportSampler

# Class 0 at places 1, 4, 6; class 1 at 0, 7; class 2 at 2, 3, 8, 9; no label at 5.
LABELS = np.array([1, 0, 2, 2, 0, -1, 0, 1, 2, 2])


def draw(
    images_per_class: int, seed: int = 0, labels: NDArray[np.int64] = LABELS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return SupportSampler.of(labels, images_per_class=images_per_class).draw(np.random.default_rng(seed))


@pytest.mark.parametrize("images_per_class", [1, 2, 5])
def test_classes_are_interleaved_and_balanced(images_per_class: int) -> None:
    places, labels = draw(images_per_class)

    assert labels.tolist() == [0, 1, 2] * images_per_class
    assert places.dtype == labels.dtype == np.int64


@pytest.mark.parametrize("images_per_class", [1, 2, 5])
def test_labels_are_the_images_own(images_per_class: int) -> None:
    for seed in range(20):
        places, labels = draw(images_per_class, seed)

        assert LABELS[places].tolist() == labels.tolist()


def test_no_image_comes_twice_where_a_class_has_enough() -> None:
    for seed in range(20):
        places, _ = draw(2, seed)

        assert len(set(places.tolist())) == 6


def test_a_class_with_fewer_images_shows_each_equally_often_within_one() -> None:
    for seed in range(20):
        places, labels = draw(5, seed)

        shown = {name: sorted(Counter(places[labels == name].tolist()).values()) for name in range(3)}
        assert shown == {0: [1, 2, 2], 1: [2, 3], 2: [1, 1, 1, 2]}


def test_every_labelled_image_gets_its_turn_and_no_other() -> None:
    shown = Counter(place for seed in range(600) for place in draw(1, seed)[0].tolist())

    assert set(shown) == set(np.flatnonzero(LABELS >= 0).tolist())
    of_class = Counter(LABELS.tolist())
    for place, count in shown.items():
        chance = 1 / of_class[LABELS[place]]
        assert count / 600 == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 600))


def test_a_draw_is_a_function_of_the_generator_alone() -> None:
    sampler = SupportSampler.of(LABELS, images_per_class=3)
    first, other = sampler.draw(np.random.default_rng(1)), sampler.draw(np.random.default_rng(2))
    np.random.seed(0)  # noqa: NPY002  # the global generator must have no say
    again = sampler.draw(np.random.default_rng(1))

    assert first[0].tolist() == again[0].tolist() != other[0].tolist()


def test_the_labels_of_unlabelled_images_have_no_say() -> None:
    longer = np.concatenate([LABELS, np.full(50, -1)])

    assert draw(3, labels=longer)[0].tolist() == draw(3)[0].tolist()


@pytest.mark.parametrize(
    ("labels", "missing"),
    [([0, 0, 2, 2], r"\[1\]"), ([3, -1], r"\[0, 1, 2\]"), ([-1, -1], "any class"), ([], "any class")],
)
def test_a_class_without_a_labelled_image_is_refused(labels: list[int], missing: str) -> None:
    with pytest.raises(ValueError, match=f"every class needs a labelled training image; none has one of: {missing}"):
        SupportSampler.of(np.array(labels, dtype=np.int64), images_per_class=1)
