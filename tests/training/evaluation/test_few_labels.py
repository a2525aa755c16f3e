from __future__ import annotations

import numpy as np
import pytest

from training.corpora.withheld_labels import withhold_labels
from training.evaluation.few_labels import few_label_hits
from training.evaluation.linear_probe import LinearProbe, fit_linear_probe
from training.run_config import LabelConfig


def clusters(count: int, seed: int, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    vectors = np.eye(3)[labels] + spread * rng.standard_normal((count, 3))
    return vectors.astype(np.float32), labels.astype(np.int64)


def test_one_label_of_each_class_tells_clean_clusters_apart() -> None:
    hits = few_label_hits(
        clusters(60, 0), clusters(30, 1), shown=LabelConfig(labels_per_class=1), draws=3, probe=LinearProbe()
    )

    assert hits.shape == (3, 30)
    assert hits.min() == 1


def test_each_draw_is_a_probe_on_its_own_labels() -> None:
    bank, queries = clusters(120, 0, spread=0.8), clusters(90, 1, spread=0.8)
    hits = few_label_hits(bank, queries, shown=LabelConfig(labels_per_class=20), draws=2, probe=LinearProbe())

    for draw in range(2):
        shown = withhold_labels(bank[1], LabelConfig(labels_per_class=20, label_seed=draw)) >= 0
        assert shown.sum() == 60
        expected = fit_linear_probe(bank[0][shown], bank[1][shown], queries[0]).predictions == queries[1]
        assert (hits[draw] == expected).all()
    assert (hits[0] != hits[1]).any()


def test_more_labels_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="labels-per-class"):
        few_label_hits(
            clusters(12, 0), clusters(6, 1), shown=LabelConfig(labels_per_class=5), draws=1, probe=LinearProbe()
        )


def test_a_share_of_the_labels_is_drawn_of_every_class() -> None:
    bank, queries = clusters(120, 0, spread=0.8), clusters(90, 1, spread=0.8)
    shown = LabelConfig(label_fraction=0.1)
    hits = few_label_hits(bank, queries, shown=shown, draws=1, probe=LinearProbe())
    same = few_label_hits(bank, queries, shown=LabelConfig(labels_per_class=4), draws=1, probe=LinearProbe())
    assert (hits == same).all()
