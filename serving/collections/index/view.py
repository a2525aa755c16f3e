"""What one search sees: a committed state of the index that nothing changes any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serving.collections.columns.columns import ColumnsView
from serving.collections.config import FILTER_SCAN_RATIO
from serving.collections.filters.conditions import Condition
from serving.collections.filters.mask import rows_matching
from serving.collections.index.ann.search import Ann
from serving.collections.index.plan import plan_filtered
from serving.collections.index.rows import Rows
from serving.collections.index.scan import scan_candidates
from serving.collections.index.scoring import exact_scores
from serving.collections.types import Metric
from serving.errors import Corrupted

__all__ = ["Found", "IndexView"]

_SCAN_QUERIES = 64
_SPARE_CANDIDATES = 16
_SCAN_SHARE = 0.1
"""Share of the base from which asking the graph for so many neighbours costs more than scanning it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Neighbours of one query, best first; equal scores by key, the older first."""

    ids: list[str]
    scores: NDArray[np.float32]
    keys: NDArray[np.int64]
    versions: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexView:
    """The index at one sequence."""

    metric: Metric
    sequence: int
    """Of the last write it shows."""
    base: Rows | None
    graph: Ann | None
    """The index over the rows of `base`; `None`: they are compared one by one."""
    base_bits: NDArray[np.uint8] | None
    """`base.alive`, one bit a row; `None`: all."""
    base_alive_count: int
    tail: tuple[Rows, ...]
    tail_alive_count: int
    damaged: Sequence[str]
    """Records whose stored vector does not match its checksum, and which therefore cannot be found."""
    columns: ColumnsView = field(default_factory=lambda: ColumnsView((), {}))
    """The declared fields of all rows."""
    filtered: bool = False
    """Whether rows count as dead that live, but do not match a filter; `base_bits` still shows them."""
    scan_ratio: float = FILTER_SCAN_RATIO
    """As in `CollectionsConfig.filter_scan_ratio`."""

    @property
    def record_count(self) -> int:
        """Records in the collection, damaged ones included."""
        return self.base_alive_count + self.tail_alive_count + len(self.damaged)

    def matching(self, where: Condition | None) -> IndexView:
        """Returns a view of those records alone for which a filter holds.

        Args:
            where: The filter; `None`: every record.

        Returns:
            A view of the same state.

        Raises:
            InvalidInput: The declared fields cannot answer the filter.
            Corrupted: A record is damaged: nobody knows whether it matches.
        """
        self._check_undamaged()
        if where is None:
            return self
        of_base, of_tail = rows_matching(where, self.columns)
        base = None if self.base is None else _narrowed(self.base, of_base)
        ends = np.cumsum([len(part) for part in self.tail])
        tail = tuple(map(_narrowed, self.tail, np.split(of_tail, ends[:-1]))) if self.tail else ()
        return replace(
            self,
            base=base,
            base_alive_count=0 if base is None else base.alive_count,
            tail=tail,
            tail_alive_count=sum(part.alive_count for part in tail),
            filtered=True,
        )

    @property
    def living_count(self) -> int:
        """Records that live, damaged ones left out."""
        return self.base_alive_count + self.tail_alive_count

    def living_keys(self) -> NDArray[np.int64]:
        """Returns the keys of the records that live, ascending."""
        parts = self.tail if self.base is None else (self.base, *self.tail)
        keys = [part.keys if part.alive is None else part.keys[part.alive] for part in parts]
        return np.concatenate([np.empty(0, dtype=np.int64), *keys])

    def living_ids(self) -> list[str]:
        """Returns the ids of the records that live, in the order of their keys."""
        parts = self.tail if self.base is None else (self.base, *self.tail)
        return [
            part.ids[row]
            for part in parts
            for row in (range(len(part)) if part.alive is None else np.flatnonzero(part.alive).tolist())
        ]

    def search(
        self, queries: NDArray[np.float32], k: int, *, exact: bool, score_threshold: float | None
    ) -> list[Found]:
        """Returns the nearest records of each query.

        Args:
            queries: `[m, d]`, prepared.
            k: Most neighbours a query.
            exact: Score every record, whatever index there is.
            score_threshold: Leaves out lower scores; `None`: none.

        Returns:
            One entry a query, with k neighbours, or all where the collection holds fewer.

        Raises:
            Corrupted: A record is damaged: the answer might lack it.
        """
        self._check_undamaged()
        parts = self.tail if self.base is None else (self.base, *self.tail)
        starts = np.cumsum([0, *(len(part) for part in parts)])
        found: list[Found] = []
        for first in range(0, len(queries), _SCAN_QUERIES):
            block = queries[first : first + _SCAN_QUERIES]
            for query, rows in zip(block, self._candidates(block, k, exact), strict=True):
                found.append(self._rank(query, parts, starts, rows, k, score_threshold))
        return found

    def _candidates(self, queries: NDArray[np.float32], k: int, exact: bool) -> list[NDArray[np.int64]]:
        if self.base is None:
            return scan_candidates(queries, self.tail, k, self.metric)
        if exact or self.graph is None or k > _SCAN_SHARE * len(self.base):
            return scan_candidates(queries, (self.base, *self.tail), k, self.metric)
        newer = scan_candidates(queries, self.tail, k, self.metric)
        older = self._filtered_candidates(queries, k) if self.filtered else self._graph_candidates(queries, k)
        return [np.concatenate((old, new + len(self.base))) for old, new in zip(older, newer, strict=True)]

    def _graph_candidates(self, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        assert self.base is not None
        assert self.graph is not None
        found = self.graph.candidates(queries, k + max(_SPARE_CANDIDATES, k // 2), self.base_bits)
        enough = min(k, self.base_alive_count)
        for number, rows in enumerate(found):
            # Around many dead rows the graph can run dry before it has k living ones.
            if len(rows) < enough:
                found[number] = scan_candidates(queries[number : number + 1], (self.base,), k, self.metric)[0]
        return found

    def _filtered_candidates(self, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        assert self.base is not None
        assert self.graph is not None
        assert self.base.alive is not None
        plan = plan_filtered(
            k=k,
            query_count=len(queries),
            matching_count=self.base_alive_count,
            row_count=len(self.base),
            scan_ratio=self.scan_ratio,
            widest_share=_SCAN_SHARE,
        )
        if plan.scan:
            return scan_candidates(queries, (self.base,), k, self.metric)
        alive = self.base.alive
        nearest = self.graph.candidates(queries, plan.candidates, self.base_bits, is_wide=True)
        found = [rows[alive[rows]] for rows in nearest]
        dry = [number for number, rows in enumerate(found) if len(rows) < min(k, self.base_alive_count)]
        if dry:
            for number, rows in zip(dry, scan_candidates(queries[dry], (self.base,), k, self.metric), strict=True):
                found[number] = rows
        return found

    def _check_undamaged(self) -> None:
        if self.damaged:
            raise Corrupted(
                f"{len(self.damaged)} records do not match their checksums, the first is {self.damaged[0]!r}; "
                "delete them or write them anew, then search again",
                record_id=self.damaged[0],
                damaged_count=len(self.damaged),
            )

    def _rank(
        self,
        query: NDArray[np.float32],
        parts: Sequence[Rows],
        starts: NDArray[np.int64],
        rows: NDArray[np.int64],
        k: int,
        score_threshold: float | None,
    ) -> Found:
        owners = np.searchsorted(starts, rows, side="right") - 1
        local = rows - starts[owners]
        scores = np.empty(len(rows), dtype=np.float32)
        keys = np.empty(len(rows), dtype=np.int64)
        for owner in np.unique(owners).tolist():
            here = owners == owner
            parts[owner].check(local[here])
            scores[here] = exact_scores(query, parts[owner].vectors[local[here]], self.metric)
            keys[here] = parts[owner].keys[local[here]]
        best = np.lexsort((keys, -scores))[:k]
        if score_threshold is not None:
            best = best[scores[best] >= score_threshold]
        places = [(parts[owner], row) for owner, row in zip(owners[best].tolist(), local[best].tolist(), strict=True)]
        return Found(
            ids=[part.ids[row] for part, row in places],
            scores=scores[best],
            keys=keys[best],
            versions=np.array([part.versions[row] for part, row in places], dtype=np.int64),
        )


def _narrowed(rows: Rows, matching: NDArray[np.bool_]) -> Rows:
    return replace(rows, alive=matching if rows.alive is None else rows.alive & matching)
