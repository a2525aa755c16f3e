from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.client.chunks import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, chunk_slices


@given(st.lists(st.integers(0, MAX_MESSAGE_BYTES), max_size=60), st.integers(1, 7))
def test_runs_cover_all_in_order_and_each_fits(sizes: list[int], max_items: int) -> None:
    runs = list(chunk_slices(sizes, max_items=max_items))
    assert [index for run in runs for index in range(run.start, run.stop)] == list(range(len(sizes)))
    for run in runs:
        items = sizes[run]
        assert 1 <= len(items) <= max_items
        # One item that is large by itself goes alone; a message holds it still.
        assert sum(items) <= MAX_CHUNK_BYTES or len(items) == 1


def test_runs_are_as_large_as_they_may_be() -> None:
    half = MAX_CHUNK_BYTES // 2
    assert list(chunk_slices([half, half, 1])) == [slice(0, 2), slice(2, 3)]
    assert list(chunk_slices([1] * 2_500)) == [slice(0, 1000), slice(1000, 2000), slice(2000, 2500)]


def test_an_item_that_no_message_holds_is_named() -> None:
    with pytest.raises(ValueError, match="item 1 takes 33554433 bytes"):
        list(chunk_slices([5, MAX_MESSAGE_BYTES + 1]))
