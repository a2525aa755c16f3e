"""Reading a collection: records by id, counts, searches and lists, each as of one committed state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.collections.clock import SteadyClock
from serving.collections.config import MAX_PAGE_RECORDS
from serving.collections.definition import Definition
from serving.collections.expiry import Expiry
from serving.collections.filters.conditions import Condition
from serving.collections.index.derived import DerivedIndex
from serving.collections.index.view import Found, IndexView
from serving.collections.listing import Page, page_matching
from serving.collections.recall import RecallMeter
from serving.collections.record_reader import RecordReader
from serving.collections.search import check_k, check_sequence, hits_with_records, hits_without_records
from serving.collections.types import Hits, Record
from serving.collections.validation import encode_id, encode_ids
from serving.collections.vectors import check_space, prepare_queries
from serving.errors import InvalidInput, ServingError

__all__ = ["CollectionReads"]


class CollectionReads:
    """What a collection answers without writing; calls may come from any thread.

    Args:
        definition: What it is.
        reader: Reads its record.
        index: Its index.
        expiry: Knows which of its records have expired.
        clock: Decides what has expired.
    """

    def __init__(
        self, definition: Definition, reader: RecordReader, index: DerivedIndex, *, expiry: Expiry, clock: SteadyClock
    ) -> None:
        self._definition = definition
        self._reader = reader
        self._index = index
        self._expiry = expiry
        self._clock = clock
        self._refusal: ServingError | None = None
        self.recall = RecallMeter()
        """What its searches find of what there is."""
        self.recall.target_recall = definition.spec.index.target_recall

    def get(self, ids: Sequence[str], *, min_sequence: int = 0) -> list[Record | None]:
        """Returns records by id.

        Args:
            ids: At most `MAX_BATCH_RECORDS`.
            min_sequence: A sequence this collection has returned; what it wrote is seen.

        Returns:
            Per id its record, `None` where there is none.

        Raises:
            InvalidInput: Something is no id.
            Corrupted: A record is not what was written.
            VersionMismatch: `min_sequence` lies in the future.
        """
        self._check_in_service()
        encoded = encode_ids(ids)
        check_sequence(min_sequence, self._index.view.sequence)
        records = self._reader.by_ids(tuple(set(encoded)), now_us=self._clock.now_us())
        return [records.get(identifier) for identifier in encoded]

    def count(self, where: Condition | None = None) -> int:
        """Returns how many records the collection holds.

        Args:
            where: Counts only records for which this holds; `None`: all.

        Returns:
            Their number, as of one committed state.

        Raises:
            InvalidInput: The declared fields cannot answer the filter.
            Corrupted: A record is damaged: nobody knows whether it matches.
        """
        self._check_in_service()
        view = self._visible()
        return view.record_count if where is None else view.matching(where).living_count

    def search(
        self,
        queries: NDArray[np.float32],
        *,
        space: str,
        k: int,
        exact: bool = False,
        score_threshold: float | None = None,
        where: Condition | None = None,
        with_records: bool = False,
        min_sequence: int = 0,
    ) -> list[Hits]:
        """Returns the nearest records of each query, as of one committed state.

        Args:
            queries: `[m, d]`, at most `MAX_QUERIES`.
            space: Space they belong to; empty where the collection is for raw vectors.
            k: Neighbours a query, in [1, `MAX_K`].
            exact: Scores every record, whatever index there is.
            score_threshold: Leaves out lower scores.
            where: Finds only records for which this holds; `None`: all.
            with_records: Returns the records too.
            min_sequence: A sequence this collection has returned; what it wrote is seen.

        Returns:
            One entry a query, best first; equal scores in the order in which their vectors were written.

        Raises:
            SpaceMismatch: The queries belong to another space, whatever their dimension.
            DimensionMismatch: They have another width.
            InvalidInput: A query is zero (cosine), NaN or infinite; k is below 1; or the declared fields cannot
                answer the filter.
            InputTooLarge: k or the number of queries is over its limit.
            VersionMismatch: `min_sequence` lies in the future.
            Corrupted: A record that might belong into the answer is damaged.
        """
        self._check_in_service()
        spec = self._definition.spec
        check_space(spec, space)
        prepared = prepare_queries(spec, queries)
        check_k(k, score_threshold)
        check_sequence(min_sequence, self._index.view.sequence)

        def search(view: IndexView) -> list[Found]:
            found = view.matching(where).search(prepared, k, exact=exact, score_threshold=score_threshold)
            if not exact and score_threshold is None and where is None and found:
                self.recall.offer(view, prepared, k, found)
            return found

        if with_records:
            return hits_with_records(self._visible, search, self._reader, where)
        return hits_without_records(search(self._visible()))

    def list(self, *, page_size: int, after_id: str = "") -> list[Record]:
        """Returns records in the bytewise order of their ids.

        Args:
            page_size: Most records to return, at least 1; above `MAX_PAGE_RECORDS` it is taken as that.
            after_id: Where the last page ended; empty: from the beginning.

        Returns:
            Fewer than asked for only at the end.

        Raises:
            InvalidInput: `page_size` is below 1, or `after_id` is no id.
            Corrupted: A record is not what was written.
        """
        self._check_in_service()
        size, after = _page_size(page_size), encode_id(after_id) if after_id else b""
        return self._reader.page(after, size, now_us=self._clock.now_us())

    def list_matching(self, where: Condition, *, page_size: int, after_id: str = "") -> Page:
        """Returns records for which a filter holds, in the bytewise order of their ids.

        Args:
            where: The filter.
            page_size: As in `list`.
            after_id: Where the last page ended; empty: from the beginning.

        Returns:
            The page, and where the next one begins.

        Raises:
            InvalidInput: As in `list`, or the declared fields cannot answer the filter.
            Corrupted: A record is not what was written.
        """
        self._check_in_service()
        size, after = _page_size(page_size), encode_id(after_id) if after_id else b""
        return page_matching(self._visible, self._reader, where, after_id=after, size=size)

    def _visible(self) -> IndexView:
        return self._expiry.visible(lambda: self._index.view)

    def _check_in_service(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, **self._refusal.metadata)


def _page_size(asked: int) -> int:
    if asked < 1:
        raise InvalidInput(f"page_size ({asked}) must be at least 1", page_size=asked)
    return min(asked, MAX_PAGE_RECORDS)
