from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.collections.types import CollectionSpec, RecordWrite
from serving.collections.validation import batch_error, encode_id, encode_ids, prepare_writes
from serving.errors import DimensionMismatch, InputTooLarge, InvalidInput, VersionMismatch

SPEC = CollectionSpec(name="notes", space="s", dimension=8)


@pytest.mark.parametrize("identifier", ["a", "ä" * 128, "x" * 256, "with space", "日本\u00a0語", "\u200b"])
def test_ids_up_to_256_bytes_pass(identifier: str) -> None:
    assert encode_id(identifier) == identifier.encode()


@pytest.mark.parametrize("identifier", ["", "x" * 257, "ä" * 129, "tab\there", "nul\0", "\x7f", "\x85", "\ud800"])
def test_other_ids_are_refused(identifier: str) -> None:
    with pytest.raises(InvalidInput, match="record id"):
        encode_id(identifier)


def test_bad_ids_of_a_call_are_named_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_ids(["fine", "", "also fine", "\n"])
    assert sorted(caught.value.item_errors) == [1, 3]
    assert caught.value.metadata["indices"] == "1, 3"


def test_a_repeated_id_is_an_error_from_its_second_place_on(write: Callable[..., RecordWrite]) -> None:
    prepared, errors = prepare_writes(SPEC, [write("a"), write("b"), write("a"), write("a")])
    assert [item.id for item in prepared] == [b"a", b"b"]
    assert sorted(errors) == [2, 3]
    assert "index 0" in errors[3].message


def test_a_negative_if_version_is_refused(write: Callable[..., RecordWrite]) -> None:
    _, errors = prepare_writes(SPEC, [write("a", if_version=-1)])
    assert "if_version" in errors[0].message


def test_a_batch_over_the_limit_is_refused_whole(write: Callable[..., RecordWrite]) -> None:
    with pytest.raises(InputTooLarge, match="10001"):
        prepare_writes(SPEC, [write("a")] * 10_001)


def test_sources_are_dropped_where_the_collection_keeps_none(write: Callable[..., RecordWrite]) -> None:
    prepared, _ = prepare_writes(SPEC, [write("a", source=b"text", source_type="text/plain")])
    assert (prepared[0].source, prepared[0].source_type) == (None, b"")


def test_a_batch_bad_in_one_way_raises_that_error_and_in_several_the_common_one() -> None:
    mismatch, version = DimensionMismatch("wide"), VersionMismatch("old")
    assert type(batch_error({0: mismatch, 2: DimensionMismatch("long")}, 3)) is DimensionMismatch
    mixed = batch_error({0: mismatch, 1: version}, 3)
    assert type(mixed) is InvalidInput
    assert mixed.item_errors == {0: mismatch, 1: version}
    assert "2 of 3 records" in mixed.message
