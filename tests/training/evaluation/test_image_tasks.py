"""Image tasks on coloured squares whose right answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.evaluation.fakes import MeanColour, MemoryImages, mean_colour, plain_images
from training.corpora.splits import Split
from training.evaluation.held_out_images import HeldOutImages, ImageTaskConfig
from training.evaluation.image_tasks import IMAGE_TASKS
from training.evaluation.linear_probe import LinearProbe
from training.evaluation.measurement import Measurement, PerQuery, TaskUnavailableError

RED, DARK_RED, BLUE, DARK_BLUE, GREEN = (255, 0, 0), (200, 0, 0), (0, 0, 255), (0, 0, 200), (0, 255, 0)
CONFIG = ImageTaskConfig(neighbours=3)


def labelled() -> MemoryImages:
    rng = np.random.default_rng(0)
    reds = [(int(rng.integers(180, 256)), int(rng.integers(60)), int(rng.integers(60))) for _ in range(30)]
    colours = [*reds, *[(blue, green, red) for red, green, blue in reds]]
    splits = [Split.TEST if number % 3 == 0 else Split.TRAIN for number in range(60)]
    return MemoryImages(plain_images(colours), splits, labels=np.repeat([0, 1], 30))


def drawings() -> MemoryImages:
    """Three vendors draw red, blue and green; the third swaps blue and green."""
    colours = [RED, BLUE, GREEN, DARK_RED, DARK_BLUE, (0, 200, 0), (230, 0, 0), (0, 230, 0), (0, 0, 230)]
    described = [
        {"vendor": vendor, "concept": concept} for vendor in ("x", "y", "z") for concept in ("red", "blue", "green")
    ]
    groups = np.tile([0, 1, 1], 3)
    return MemoryImages(plain_images(colours), [Split.TEST] * 9, groups=groups, described=described)


def run(task: str, data: MemoryImages, config: ImageTaskConfig = CONFIG) -> dict[str, Measurement]:
    held = HeldOutImages(mean_colour(), data, Split.TEST, config)
    found = IMAGE_TASKS[task](held, config)
    return {
        f"{item.metric} {' '.join(str(value) for value in item.parameters.values())}".strip(): item for item in found
    }


def test_few_labels_are_numbers_and_shares_of_every_class() -> None:
    config = replace(CONFIG, labels_per_class=(1, 5000, 2), label_fractions=(0.5,), label_draws=2)
    found = run("few-label", labelled(), config)
    accuracies = {name: item for name, item in found.items() if name.startswith("accuracy ") and "std" not in name}
    assert set(accuracies) == {"accuracy 1 2", "accuracy 2 2", "accuracy 0.5 2"}  # no class has 5,000
    classes = accuracies["accuracy 1 2"].labels_used
    assert accuracies["accuracy 2 2"].labels_used == 2 * classes
    assert accuracies["accuracy 0.5 2"].labels_used == 20
    assert accuracies["accuracy 0.5 2"].parameters["label share"] == 0.5


def test_knn_gives_weighted_plain_and_nearest() -> None:
    found = run("knn", labelled())
    assert set(found) == {"accuracy 3 weighted, T 0.07", "accuracy 3 plain", "accuracy 1 plain"}
    assert all(item.value == 1.0 for item in found.values())
    assert {(item.n_query, item.n_gallery, item.labels_used) for item in found.values()} == {(20, 40, 40)}


def test_knn_reads_the_right_labels() -> None:
    data = labelled()
    assert data.labels is not None
    swapped = data.labels.copy()
    swapped[[number for number, split in enumerate(data.splits) if split is Split.TEST]] ^= 1
    flipped = MemoryImages(data.pixels, data.splits, labels=swapped)
    assert all(item.value == 0.0 for item in run("knn", flipped).values())


def test_unlabelled_images_are_left_out() -> None:
    data = labelled()
    assert data.labels is not None
    some = data.labels.copy()
    some[:30:2] = -1
    found = run("knn", MemoryImages(data.pixels, data.splits, labels=some))["accuracy 1 plain"]
    assert (found.n_query, found.n_gallery) == (15, 30)
    assert found.value == 1.0


def test_k_shrinks_to_a_small_bank() -> None:
    config = ImageTaskConfig(neighbours=20, bank_items=7)
    assert "accuracy 7 plain" in run("knn", labelled(), config)


def test_linear_probe_separates_colours() -> None:
    config = ImageTaskConfig(probe=LinearProbe(l2_grid=(0.1, 0.01)))
    found = run("linear-probe", labelled(), config)["accuracy"]
    assert found.value == 1.0
    assert found.labels_used == 40


@pytest.mark.parametrize("task", ["knn", "linear-probe"])
def test_data_without_labels_say_so(task: str) -> None:
    with pytest.raises(TaskUnavailableError, match=f"{task} needs labels"):
        run(task, drawings())


def test_cross_vendor_is_the_mean_over_all_ordered_pairs() -> None:
    found = run("cross-vendor", drawings())
    # x and y agree (1.0 both ways); z has blue and green swapped: only red is found, in four directions.
    assert found["recall@1 x to y"].value == 1.0
    assert found["recall@1 x to z"].value == pytest.approx(1 / 3)
    assert found["recall@1 mean of 6"].value == pytest.approx((2 * 1 + 4 / 3) / 6)
    assert found["recall@5 mean of 6"].value == 1.0
    assert (found["recall@1 mean of 6"].n_query, found["recall@1 mean of 6"].n_gallery) == (18, 3)
    assert sum(key.startswith("recall@1 ") and " to " in key for key in found) == 6


def test_cross_vendor_intervals_are_over_concept_groups() -> None:
    outcome = run("cross-vendor", drawings())["mrr mean of 6"].outcome
    assert isinstance(outcome, PerQuery)
    assert outcome.clusters is not None
    # Concepts in the order of their names: blue and green are one group, red another.
    assert outcome.clusters.tolist() == [1, 1, 0]
    # Against z, blue's answer ties with red behind the wrong one: rank 3, since ties are wrong.
    assert outcome.values.tolist() == pytest.approx([(2 + 4 / 3) / 6, (2 + 4 / 3) / 6, 1.0])


def test_concepts_that_one_vendor_lacks_are_left_out() -> None:
    data = drawings()
    splits = [*[Split.TEST] * 8, Split.TRAIN]  # z's green is not held out
    fewer = MemoryImages(data.pixels, splits, groups=data.groups, described=data.described)
    assert run("cross-vendor", fewer)["recall@1 x to y"].n_gallery == 2


def test_images_without_vendors_say_so() -> None:
    with pytest.raises(TaskUnavailableError, match="'vendor' and 'concept'"):
        run("cross-vendor", labelled())


def test_geometry_compares_vendors_where_there_are_any() -> None:
    found = run("geometry", drawings())
    assert found["alignment vendors"].n_query == 9
    outcome = found["alignment vendors"].outcome
    assert isinstance(outcome, PerQuery)
    # x against y: nearly one direction; against z: one of three concepts agrees.
    assert outcome.values[:3].max() < 0.1
    assert outcome.values[3:6].max() > 1.0


def test_geometry_compares_views_where_there_are_no_vendors() -> None:
    found = run("geometry", labelled())
    assert found["alignment views"].value == pytest.approx(0.0, abs=1e-6)  # a crop of one colour has that colour
    assert found["alignment views"].n_query == 20
    assert found["rankme 3"].value > 1.0


def test_images_are_embedded_once_for_all_tasks() -> None:
    encoder = MeanColour()
    subject = mean_colour()
    held = HeldOutImages(type(subject)(subject.info, encoder), labelled(), Split.TEST, CONFIG)
    IMAGE_TASKS["knn"](held, CONFIG)
    IMAGE_TASKS["linear-probe"](held, CONFIG)
    assert encoder.batches == [40, 20]


def test_bank_sample_is_seeded_and_from_training_images() -> None:
    data = labelled()
    one, two, other = (
        HeldOutImages(mean_colour(), data, Split.TEST, ImageTaskConfig(bank_items=10, seed=seed)).bank_indices
        for seed in (0, 0, 1)
    )
    assert one.tolist() == two.tolist() != other.tolist()
    assert all(data.splits[number] is Split.TRAIN for number in one)
