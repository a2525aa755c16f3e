from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from serving.collections.index.ann.search import Ann
from serving.collections.index.rows import PackedIds, Rows
from serving.collections.index.view import IndexView
from serving.collections.types import Metric


class ForgetfulGraph:
    """Finds nothing but row 3, whatever is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def candidates(
        self, queries: NDArray[np.float32], count: int, alive_bits: NDArray[np.uint8] | None
    ) -> list[NDArray[np.int64]]:
        self.asked.append(count)
        return [np.array([3]) for _ in queries]


def view_over(graph: ForgetfulGraph, count: int) -> IndexView:
    vectors = np.arange(count, dtype=np.float32)[:, None]
    keys = np.arange(1, count + 1)
    base = Rows(
        vectors=vectors,
        sq_norms=vectors[:, 0] ** 2,
        keys=keys,
        versions=keys,
        ids=PackedIds(np.full(count, ord("x"), dtype=np.uint8), keys),
        alive=None,
    )
    return IndexView(
        metric=Metric.L2,
        sequence=count,
        base=base,
        graph=cast("Ann", graph),
        base_bits=None,
        base_alive_count=count,
        tail=(),
        tail_alive_count=0,
        damaged=(),
    )


def keys_found(view: IndexView, k: int, *, exact: bool = False) -> list[int]:
    (found,) = view.search(np.zeros((1, 1), dtype=np.float32), k, exact=exact, score_threshold=None)
    return [int(key) for key in found.keys]


def test_a_graph_that_runs_dry_is_made_up_for_by_a_scan() -> None:
    graph = ForgetfulGraph()
    assert keys_found(view_over(graph, 100), 5) == [1, 2, 3, 4, 5]
    assert graph.asked == [5 + 16]


def test_a_graph_that_finds_enough_is_believed() -> None:
    assert keys_found(view_over(ForgetfulGraph(), 100), 1) == [4]


def test_exact_and_very_wide_searches_do_not_ask_the_graph() -> None:
    graph = ForgetfulGraph()
    assert keys_found(view_over(graph, 100), 1, exact=True) == [1]
    assert keys_found(view_over(graph, 100), 11) == list(range(1, 12))
    assert graph.asked == []
