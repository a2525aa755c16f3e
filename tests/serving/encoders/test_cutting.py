"""Batches: every item once, under the budget, and of all ways to cut the cheapest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest.mock import sentinel

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.encoder import Prepared
from serving.encoders.cutting import RUN_COST, cut_batches
from serving.encoders.request import PendingItem

NONE = np.zeros(0, np.int64)


def cut(costs: Sequence[int], budget: int) -> list[list[int]]:
    items = [PendingItem(sentinel.request, row, b"", Prepared(NONE, cost)) for row, cost in enumerate(costs)]
    batches = list(cut_batches(items, budget=budget))
    assert sorted(item.row for batch in batches for item in batch) == list(range(len(costs)))
    return [[item.prepared.cost for item in batch] for batch in batches]


def price(batches: Sequence[Sequence[int]]) -> int:
    return sum(len(batch) * max(batch) + RUN_COST for batch in batches)


def all_ways(ordered: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    if not ordered:
        yield []
    for count in range(1, len(ordered) + 1):
        for rest in all_ways(ordered[count:]):
            yield [ordered[:count], *rest]


@given(costs=st.lists(st.integers(1, 80), min_size=1, max_size=9), budget=st.integers(100, 600))
def test_no_other_way_is_cheaper(costs: list[int], budget: int) -> None:
    batches = cut(costs, budget)
    assert [cost for batch in batches for cost in batch] == sorted(costs)
    assert all(len(batch) * max(batch) <= budget for batch in batches)
    ways = (way for way in all_ways(sorted(costs)) if all(len(batch) * max(batch) <= budget for batch in way))
    assert price(batches) <= min(map(price, ways)) + RUN_COST * (max(costs) * len(costs) > budget)


def test_few_and_like_lengths_are_one_batch() -> None:
    assert cut([5, 3, 4, 5], 1000) == [[3, 4, 5, 5]]


def test_a_long_one_is_not_what_the_short_ones_are_padded_to() -> None:
    assert cut([120, 8, 9, 8, 9], 10_000) == [[8, 8, 9, 9], [120]]


@pytest.mark.parametrize("costs", [[50], [50, 50]])
def test_items_over_the_budget_run_alone(costs: list[int]) -> None:
    assert cut(costs, 10) == [[cost] for cost in costs]


def test_equal_items_are_shared_out_evenly() -> None:
    assert [len(batch) for batch in cut([10] * 25, 100)] == [8, 8, 9]


def test_padding_stays_under_five_percent_of_real_lengths() -> None:
    lengths = np.random.default_rng(0).gamma(4.0, 7.5, 1000).astype(int).clip(3, 256)
    batches = cut(lengths.tolist(), 8192)
    assert sum(len(batch) * max(batch) for batch in batches) <= 1.05 * lengths.sum()
