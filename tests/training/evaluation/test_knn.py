"""Neighbour votes against worked numbers, scikit-learn's idea of a loop, and the known traps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation import knn
from training.evaluation.knn import NeighbourVote, neighbour_votes, predict_labels


def circle(degrees: list[float]) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_votes_of_three_neighbours_at_two_temperatures() -> None:
    similarities, labels = np.array([[0.9, 0.8, 0.8]], dtype=np.float32), np.array([[0, 1, 1]])
    assert neighbour_votes(similarities, labels, 2, 0.1)[0] == pytest.approx([8103.1, 5961.9], abs=0.1)
    assert neighbour_votes(similarities, labels, 2, 1.0)[0] == pytest.approx([2.460, 4.451], abs=1e-3)
    assert neighbour_votes(similarities, labels, 2, None)[0].tolist() == [1.0, 2.0]


def test_temperature_decides_between_one_near_and_two_far() -> None:
    bank = circle([np.degrees(np.arccos(0.9)), np.degrees(np.arccos(0.8)), -np.degrees(np.arccos(0.8))])
    labels, query = np.array([0, 1, 1]), circle([0.0])
    assert predict_labels(query, bank, labels, NeighbourVote(k=3, temperature=0.1)).tolist() == [0]
    assert predict_labels(query, bank, labels, NeighbourVote(k=3, temperature=1.0)).tolist() == [1]
    assert predict_labels(query, bank, labels, NeighbourVote(k=3, temperature=None)).tolist() == [1]
    assert predict_labels(query, bank, labels, NeighbourVote(k=1, temperature=None)).tolist() == [0]


def test_equal_plain_votes_go_to_the_nearer_class() -> None:
    bank, labels = circle([10, 20, 30, 40]), np.array([2, 1, 1, 2])
    assert predict_labels(circle([0]), bank, labels, NeighbourVote(k=4, temperature=None)).tolist() == [2]
    assert predict_labels(circle([50]), bank, labels, NeighbourVote(k=4, temperature=None)).tolist() == [2]
    assert predict_labels(circle([24]), bank, labels, NeighbourVote(k=4, temperature=None)).tolist() == [1]


def test_query_in_the_bank_does_not_vote_for_itself() -> None:
    bank, labels = circle([0, 10, 90, 100]), np.array([0, 1, 0, 1])
    vote = NeighbourVote(k=1, temperature=None)
    assert predict_labels(bank, bank, labels, vote).tolist() == labels.tolist()
    assert predict_labels(bank, bank, labels, vote, own_rows=np.arange(4)).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_blocks_give_what_a_loop_gives(monkeypatch: pytest.MonkeyPatch, temperature: float | None) -> None:
    monkeypatch.setattr(knn, "_SCORES_PER_BLOCK", 7 * 50)
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(50, 6)), rng.normal(size=(23, 6))
    labels = rng.integers(0, 4, size=50)
    expected = []
    for query in queries:
        cosines = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        nearest = np.argsort(-cosines)[:9]
        votes = np.zeros(4)
        for row in nearest:
            votes[labels[row]] += 1.0 if temperature is None else np.exp(cosines[row] / temperature)
        winners = np.flatnonzero(np.isclose(votes, votes.max()))
        expected.append(next(int(labels[row]) for row in nearest if labels[row] in winners))
    vote = NeighbourVote(k=9, temperature=temperature)
    found = predict_labels(queries.astype(np.float32), bank.astype(np.float32), labels, vote)
    assert found.tolist() == expected


def test_length_of_vectors_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    bank, queries = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(10, 5)).astype(np.float32)
    labels = rng.integers(0, 3, size=40)
    scaled = bank * rng.uniform(0.1, 9.0, size=(40, 1)).astype(np.float32)
    vote = NeighbourVote(k=5)
    assert np.array_equal(
        predict_labels(queries, bank, labels, vote), predict_labels(queries * 3, scaled, labels, vote)
    )


def test_k_above_the_bank_is_refused() -> None:
    bank = circle([0, 1, 2])
    with pytest.raises(ValueError, match=r"k \(4\) exceeds the 3 bank items"):
        predict_labels(bank, bank, np.zeros(3, dtype=np.int64), NeighbourVote(k=4))
    with pytest.raises(ValueError, match=r"k \(3\) exceeds the 2 bank items"):
        predict_labels(bank, bank, np.zeros(3, dtype=np.int64), NeighbourVote(k=3), own_rows=np.arange(3))


def test_unlabelled_bank_items_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a label"):
        predict_labels(circle([0]), circle([0, 1]), np.array([0, -1]), NeighbourVote(k=1))


def test_vectors_that_are_not_finite_are_refused() -> None:
    bank = circle([0, 1])
    bank[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 of the vectors"):
        predict_labels(circle([0]), bank, np.array([0, 1]), NeighbourVote(k=1))


def test_votes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="k"):
        NeighbourVote(k=0)
    with pytest.raises(ValueError, match="temperature"):
        NeighbourVote(temperature=0.0)
