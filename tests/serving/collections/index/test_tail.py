from __future__ import annotations

import numpy as np

from serving.collections.index.rows import PackedIds
from serving.collections.index.tail import Tail
from serving.collections.transaction import AddedVector


def add(tail: Tail, keys: range) -> None:
    tail.append([AddedVector(key, f"id{key}", np.full(2, key, dtype=np.float32)) for key in keys])


def content(tail: Tail) -> list[tuple[int, str, float, int]]:
    return [
        (int(rows.keys[row]), rows.ids[row], float(rows.vectors[row, 1]), int(rows.versions[row]))
        for rows in tail.snapshot()
        for row in range(len(rows))
        if rows.alive is None or rows.alive[row]
    ]


def test_rows_come_back_in_order_over_growth_and_block_bounds() -> None:
    tail = Tail(2)
    for start in range(1, 20_001, 250):
        add(tail, range(start, start + 250))
    assert content(tail) == [(key, f"id{key}", float(key), key) for key in range(1, 20_001)]
    assert [len(rows) for rows in tail.snapshot()] == [8_192, 8_192, 3_616]
    assert tail.row_count == tail.alive_count == 20_000


def test_one_append_may_fill_several_blocks() -> None:
    tail = Tail(2)
    add(tail, range(1, 17_001))
    assert len(content(tail)) == 17_000


def test_squared_norms_are_kept() -> None:
    tail = Tail(2)
    add(tail, range(3, 5))
    assert tail.snapshot()[0].sq_norms.tolist() == [18.0, 32.0]


def test_a_snapshot_stays_as_it_was_whatever_comes_later() -> None:
    tail = Tail(2)
    add(tail, range(1, 6))
    before = tail.snapshot()[0]
    tail.kill(2)
    middle = tail.snapshot()[0]
    tail.kill(3)
    add(tail, range(6, 400))
    tail.kill(4)
    assert (before.keys.tolist(), before.alive) == ([1, 2, 3, 4, 5], None)
    assert middle.alive is not None
    assert middle.alive.tolist() == [True, False, True, True, True]
    assert middle.vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert middle.alive_count == 4


def test_only_known_keys_are_found() -> None:
    tail = Tail(2)
    assert not tail.kill(1)
    add(tail, range(10, 20))
    assert (tail.kill(9), tail.kill(20), tail.kill(12), tail.kill(12)) == (False, False, True, True)
    assert tail.alive_count == 9
    assert tail.set_version(13, 99)
    assert not tail.set_version(99, 100)
    assert [version for *_, version in content(tail)] == [10, 11, 99, 14, 15, 16, 17, 18, 19]


def test_the_living_are_copied_with_their_versions() -> None:
    tail = Tail(2)
    add(tail, range(1, 11))
    tail.kill(2)
    tail.kill(9)
    tail.set_version(8, 50)
    copied = tail.living(after_key=5)
    assert content(copied) == [(6, "id6", 6, 6), (7, "id7", 7, 7), (8, "id8", 8, 50), (10, "id10", 10, 10)]
    assert copied.row_count == 4
    older = Tail(2)
    add(older, range(1, 4))
    assert [key for key, *_ in content(copied.living(before=older.snapshot()))] == [1, 2, 3, 6, 7, 8, 10]


def test_copying_pays_once_the_dead_outnumber_the_living() -> None:
    tail = Tail(2)
    add(tail, range(1, 3_001))
    for key in range(1, 1_501):
        tail.kill(key)
    assert not tail.wasteful()
    tail.kill(1_501)
    assert tail.wasteful()
    assert not tail.living().wasteful()


def test_packed_ids_are_read_by_row() -> None:
    names = ["a", "äö", "", "c"]
    blob = np.frombuffer("".join(names).encode(), dtype=np.uint8)
    ends = np.cumsum([len(name.encode()) for name in names])
    packed = PackedIds(blob, ends)
    assert [packed[row] for row in range(4)] == names
