from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.encoder import Purpose
from serving.encoders.cache import ENTRY_BYTES, KnownItem, VectorCache, item_key

SIZE = ENTRY_BYTES + 16  # of four floats


def known(number: float) -> KnownItem:
    return KnownItem(np.full(4, number, np.float32), int(number), truncated=False)


def test_the_items_asked_for_longest_ago_are_dropped() -> None:
    cache = VectorCache(3 * SIZE)
    for number in range(3):
        cache.put("f", bytes([number]), known(number))
    assert cache.get("f", b"\0") is not None  # asked for again
    cache.put("f", b"new", known(9))

    found = {key: cache.get("f", key) for key in (b"\0", b"\1", b"\2", b"new")}
    assert [key for key, item in found.items() if item is None] == [b"\1"]
    assert (len(cache), cache.bytes) == (3, 3 * SIZE)
    assert (cache.hit_count, cache.miss_count) == (4, 1)


def test_what_is_kept_is_a_copy_of_one_encoder() -> None:
    cache = VectorCache(10 * SIZE)
    batch = np.ones((2, 4), np.float32)
    cache.put("f", b"a", KnownItem(batch[0], 3, truncated=True))
    batch[0] = 7
    found = cache.get("f", b"a")
    assert found is not None
    assert (found.vector.tolist(), found.cost, found.truncated) == ([1.0] * 4, 3, True)
    assert found.vector.base is None  # holds no whole batch
    assert cache.get("other", b"a") is None
    cache.put("f", b"a", known(2))
    assert (len(cache), cache.bytes) == (1, SIZE)


def test_nothing_is_kept_without_room() -> None:
    off, small = VectorCache(0), VectorCache(SIZE - 1)
    for cache in (off, small):
        cache.put("f", b"a", known(1))
        assert cache.get("f", b"a") is None
        assert (len(cache), cache.bytes) == (0, 0)
    assert (off.hit_count, off.miss_count) == (0, 0)  # nobody asked for a cache


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60), st.integers(0, 4))
def test_a_cache_never_holds_more_than_its_bound_nor_another_items_vector(
    steps: list[tuple[bool, int]], room: int
) -> None:
    cache = VectorCache(room * SIZE)
    for is_write, number in steps:
        if is_write:
            cache.put("f", bytes([number]), known(number))
        else:
            found = cache.get("f", bytes([number]))
            assert found is None or found.vector.tolist() == [number] * 4
        assert cache.bytes == len(cache) * SIZE <= room * SIZE


def test_a_key_is_of_all_that_changes_the_vector() -> None:
    keys = [
        item_key(item, purpose=purpose, truncate=truncate)
        for item in ("text", b"text", "", "tex", "t\0")
        for purpose in Purpose
        for truncate in (False, True)
    ]
    assert len(set(keys)) == len(keys)
    assert item_key("text", purpose=Purpose.QUERY, truncate=True) == item_key(
        "text", purpose=Purpose.QUERY, truncate=True
    )
