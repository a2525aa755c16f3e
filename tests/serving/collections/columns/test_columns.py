"""Columns beside a plain list of metadata, through every way in which an index rearranges its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.collections.columns import chunks, columns
from serving.collections.columns.columns import Columns, ColumnsView
from serving.collections.columns.dictionary import Dictionary
from serving.collections.filters.conditions import Condition, Exists, OneOf, Prefix, Range
from serving.collections.filters.holds import holds
from serving.collections.filters.mask import rows_matching
from serving.collections.types import FieldDefinition, FieldType
from tests.serving.collections.filters.oracle import CONDITIONS, FIELDS, METADATA, truth

Rows = list[dict[str, Any]]


def check(view: ColumnsView, base: Rows, tail: Rows, condition: Condition) -> None:
    found = rows_matching(condition, view)
    assert [mask.tolist() for mask in found] == [[truth(condition, row) for row in part] for part in (base, tail)]


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(METADATA, max_size=4)),
        st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), METADATA)),
        st.tuples(st.sampled_from(["swap", "pack", "view"]), st.randoms(use_true_random=False)),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(changes=CHANGES, conditions=st.lists(CONDITIONS, min_size=1, max_size=3))
def test_columns_answer_as_a_person_would_in_every_state_that_was_seen(
    changes: list[tuple[str, Any]], conditions: list[Condition]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So that few rows fill several chunks, and little waste is packed.
        patch.setattr(chunks, "CHUNK_ROWS", 4)
        patch.setattr(columns, "_KEPT_VALUES", 2)
        kept, base, tail = Columns(FIELDS), Rows(), Rows()
        seen: list[tuple[ColumnsView, Rows, Rows]] = []
        for kind, what in changes:
            base, tail = change(kept, kind, what, base, tail)
            if kind == "view":
                seen.append((kept.view(), list(base), list(tail)))
        seen.append((kept.view(), base, tail))
        for view, old_base, old_tail in seen:
            for condition in conditions:
                check(view, old_base, old_tail, condition)


def change(kept: Columns, kind: str, what: Any, base: Rows, tail: Rows) -> tuple[Rows, Rows]:
    match kind:
        case "append":
            kept.append(what)
            return base, [*tail, *what]
        case "replace" if base or tail:
            row, metadata = what[0] % (len(base) + len(tail)), what[1]
            both = [*base, *tail]
            both[row] = metadata
            if row < len(base):
                kept.replace_in_base(row, metadata)
            else:
                kept.replace_in_tail(row - len(base), metadata)
            return both[: len(base)], both[len(base) :]
        case "swap":
            both = [*base, *tail, {}]
            chosen = [what.choice([*range(len(both) - 1), -1]) for _ in both[1:]]
            cut = what.randint(0, len(chosen))
            kept.arrange(np.array(chosen[:cut], np.int64), np.array(chosen[cut:], np.int64))
            return [both[row] for row in chosen[:cut]], [both[row] for row in chosen[cut:]]
        case "pack":
            chosen = [row for row in range(len(tail)) if what.random() < 0.6]
            kept.arrange_tail(np.array(chosen, np.int64))
            return base, [tail[row] for row in chosen]
    return base, tail


@given(metadata=METADATA, condition=CONDITIONS)
def test_one_record_is_judged_as_a_person_would(metadata: dict[str, Any], condition: Condition) -> None:
    assert holds(condition, metadata) == truth(condition, metadata)


def masks(view: ColumnsView, condition: Condition) -> NDArray[np.bool_]:
    return np.concatenate(rows_matching(condition, view))


def test_a_view_keeps_what_it_showed_through_more_rows_than_a_chunk_holds() -> None:
    kept = Columns([FieldDefinition("n", FieldType.INTEGER), FieldDefinition("s", FieldType.STRING)])
    kept.append([{"n": row, "s": f"s{row % 7}"} for row in range(70_000)])
    before = kept.view()
    kept.replace_in_tail(3, {"n": -1})
    kept.replace_in_tail(69_999, {"n": -1, "s": "new"})
    kept.append([{"n": -1}])
    after = kept.view()
    negative = Range(field="n", less=0)
    assert np.flatnonzero(masks(before, negative)).tolist() == []
    assert np.flatnonzero(masks(after, negative)).tolist() == [3, 69_999, 70_000]
    assert [int(masks(view, OneOf("s", ("s3",))).sum()) for view in (before, after)] == [10_000, 9_999]
    assert [len(masks(view, Exists("n"))) for view in (before, after)] == [70_000, 70_001]


def test_strings_that_have_gone_out_of_use_are_forgotten() -> None:
    kept = Columns([FieldDefinition("s", FieldType.STRING), FieldDefinition("l", FieldType.STRING_LIST)])
    kept.append([{"s": "kept", "l": ("kept", "too")}, {}])
    for turn in range(6_000):
        kept.replace_in_tail(1, {"s": f"s{turn}", "l": (f"l{turn}",)})
    sizes = [len(field.dictionary) for field in kept.view().fields.values()]
    assert sizes == [2, 3]
    for condition in (OneOf("s", ("kept",)), OneOf("l", ("too",))):
        assert masks(kept.view(), condition).tolist() == [True, False]
    for condition in (OneOf("s", ("s5999",)), OneOf("l", ("l5999",))):
        assert masks(kept.view(), condition).tolist() == [False, True]


def test_prefixes_are_found_among_sorted_and_newer_strings() -> None:
    dictionary = Dictionary()
    first = dictionary.encode([f"{number:03}" for number in range(100)])
    assert sorted(dictionary.find_prefix("01").tolist()) == first[10:20]
    (newer,) = dictionary.encode(["01x"])
    assert sorted(dictionary.find_prefix("01").tolist()) == [*first[10:20], newer]
    assert len(dictionary.find_prefix("")) == 101
    assert dictionary.find_prefix("2").tolist() == []


def test_a_prefix_of_many_strings_is_looked_up_in_a_table() -> None:
    kept = Columns([FieldDefinition("s", FieldType.STRING)])
    kept.append([{"s": f"{row % 100:02}"} for row in range(1_000)])
    assert int(masks(kept.view(), Prefix("s", "3")).sum()) == 100
    assert int(masks(kept.view(), Prefix("s", "")).sum()) == 1_000
