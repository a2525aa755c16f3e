"""Recall against hand-made cases and against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.export.neighbours import VectorSet, find_members, recall_of


def both(rows: NDArray[np.float32]) -> VectorSet:
    return VectorSet(queries=rows, gallery=rows)


def angles(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_the_neighbours_of_a_hand_case_are_the_nearest_others() -> None:
    # Angles 0, 10, 30, 60: nearest two of 0 are 10 and 30; of 10, 0 and 30; of 30, 10 and then 0 or 60 (a tie).
    members = find_members(both(angles(0, 10, 31, 60)), metric="cosine", count=2)
    assert members.tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0]]


def test_recall_of_a_hand_case() -> None:
    wanted = find_members(both(angles(0, 10, 31, 60)), metric="cosine", count=2)
    # With the second moved to 80, rows find {31, 60}, {31, 60}, {60, 0}, {80, 31}: 1, 1, 1 and 2 of what they should.
    found = find_members(both(angles(0, 80, 31, 60)), metric="cosine", count=2)
    assert found.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
    assert recall_of(found, wanted) == pytest.approx((1 + 1 + 1 + 2) / 8)


def test_rows_that_tie_share_the_places_left() -> None:
    rows = np.array([[1, 1], [1, 1], [1, 1], [1, -1]], np.float32)
    members = find_members(both(rows), metric="cosine", count=1)
    assert members.tolist() == [[0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]]
    assert recall_of(members, members) == 1


def test_the_metric_decides_who_is_near() -> None:
    # From (1, 0): the longer vector has the greater product, the other the smaller distance, a third the same angle.
    rows = np.array([[1, 0], [5, 3], [1.2, 0.5], [0.1, 0]], np.float32)
    nearest = {
        metric: find_members(both(rows), metric=metric, count=1)[0].argmax()
        for metric in ("inner_product", "l2", "cosine")
    }
    assert nearest == {"inner_product": 1, "l2": 2, "cosine": 3}


def test_queries_may_be_other_vectors_than_the_gallery() -> None:
    gallery = angles(0, 40, 90)
    members = find_members(VectorSet(queries=angles(90, 0, 40), gallery=gallery), metric="cosine", count=1)
    assert members.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # a query's own row is never an answer


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_recall_is_that_of_sorting(metric: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 8)).astype(np.float32)
    noisy = (rows + 0.4 * rng.normal(size=rows.shape)).astype(np.float32)

    def ten(vectors: NDArray[np.float32]) -> list[set[int]]:
        exact = vectors.astype(np.float64)
        unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        scores = {
            "cosine": unit @ unit.T,
            "inner_product": exact @ exact.T,
            "l2": -np.square(exact[:, None] - exact[None]).sum(axis=2),
        }[metric]
        np.fill_diagonal(scores, -np.inf)
        return [set(row[:10].tolist()) for row in np.argsort(-scores, axis=1)]

    wanted = np.mean([len(a & b) / 10 for a, b in zip(ten(rows), ten(noisy), strict=True)])
    found = recall_of(*(find_members(both(side), metric=metric, count=10) for side in (noisy, rows)))
    assert found == pytest.approx(wanted, abs=1e-9)
    assert 0.2 < wanted < 0.9


@pytest.mark.parametrize("count", [0, 4])
def test_more_neighbours_than_other_rows_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"count \({count}\) must lie in \[1, 4\)"):
        find_members(both(angles(0, 10, 20, 30)), metric="cosine", count=count)
