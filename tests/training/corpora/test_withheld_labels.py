from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.corpora.withheld_labels import withhold_labels
from training.run_config import LabelConfig

COUNTS = {0: 40, 1: 25, 2: 7}
NO_LABEL = 12


def labels_of(seed: int = 0) -> NDArray[np.int64]:
    labels = np.concatenate([np.full(NO_LABEL, -1), *(np.full(count, name) for name, count in COUNTS.items())])
    return np.random.default_rng(seed).permutation(labels)


def shown_of_each(shown: NDArray[np.int64]) -> list[int]:
    return [int((shown == name).sum()) for name in COUNTS]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LabelConfig(), [40, 25, 7]),
        (LabelConfig(labels_per_class=1), [1, 1, 1]),
        (LabelConfig(labels_per_class=7), [7, 7, 7]),
        (LabelConfig(label_fraction=0.2), [8, 5, 1]),
        (LabelConfig(label_fraction=0.01), [1, 1, 1]),  # a class is never without one
        (LabelConfig(label_fraction=1.0), [40, 25, 7]),
    ],
)
def test_as_many_of_each_class_are_shown_as_told(config: LabelConfig, expected: list[int]) -> None:
    labels = labels_of()

    assert shown_of_each(withhold_labels(labels, config)) == expected


@pytest.mark.parametrize("config", [LabelConfig(), LabelConfig(labels_per_class=3), LabelConfig(label_fraction=0.5)])
def test_a_shown_label_is_the_images_own_and_unlabelled_images_stay_so(config: LabelConfig) -> None:
    labels = labels_of()
    before = labels.copy()

    shown = withhold_labels(labels, config)

    assert shown.shape == labels.shape
    assert shown.dtype == labels.dtype
    assert np.array_equal(shown[shown >= 0], labels[shown >= 0])
    assert (shown[labels == -1] == -1).all()
    assert np.array_equal(labels, before)


def test_seeds_show_other_labels_and_the_same_seed_the_same() -> None:
    labels = labels_of()

    def shown(seed: int) -> list[int]:
        return np.flatnonzero(withhold_labels(labels, LabelConfig(labels_per_class=4, label_seed=seed)) >= 0).tolist()

    assert shown(0) == shown(0)
    assert len({tuple(shown(seed)) for seed in range(10)}) == 10


def test_the_choice_takes_no_notice_of_any_other_randomness() -> None:
    labels, config = labels_of(), LabelConfig(label_fraction=0.3)
    first = withhold_labels(labels, config)
    np.random.seed(7)  # noqa: NPY002  # the global generator must have no say

    assert np.array_equal(withhold_labels(labels, config), first)


def test_every_label_of_a_class_may_be_shown() -> None:
    labels = labels_of()
    shown = [withhold_labels(labels, LabelConfig(labels_per_class=2, label_seed=seed)) >= 0 for seed in range(60)]

    assert np.array_equal(np.any(shown, axis=0)[labels == 2], np.ones(7, dtype=bool))


def test_too_few_of_a_class_are_refused_with_the_flag_and_the_class() -> None:
    message = r"--labels-per-class \(8\) must be <= the labelled training images of every class; class 2 has 7"
    with pytest.raises(ValueError, match=message):
        withhold_labels(labels_of(), LabelConfig(labels_per_class=8))


@pytest.mark.parametrize("config", [LabelConfig(), LabelConfig(labels_per_class=1), LabelConfig(label_fraction=0.5)])
@pytest.mark.parametrize("labels", [[-1, -1, -1], []])
def test_images_without_any_label_are_refused(config: LabelConfig, labels: list[int]) -> None:
    with pytest.raises(ValueError, match="no training image has a label; name folders by class"):
        withhold_labels(np.array(labels, dtype=np.int64), config)
