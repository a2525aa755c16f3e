from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.client.metadata import metadata_of_values
from diptych.client.operations.records import upsert_requests
from diptych.client.operations.search import batch_search
from diptych.client.requests import embed_request, inputs_of, query_message, record_writes, search_parameters
from diptych.client.tensors import tensor_of_vectors


def test_an_image_file_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"anything")
    assert [one.image for one in inputs_of(None, [file, b"raw"])] == [b"anything", b"raw"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inputs_of("one string", None), "texts must be a list of strings"),
        (lambda: inputs_of(["a"], [b"b"]), r"exactly one of texts, images \(given: texts, images\)"),
        (lambda: inputs_of(None, None), r"given: none"),
        (lambda: embed_request([], {"purpose": "both"}), r"purpose \('both'\) must be"),
        (lambda: embed_request([], {"encoding": "int4"}), r"encoding \('int4'\) must be one of float32"),
        (lambda: record_writes(["a"], None, [{}, {}], None), "2 metadata for 1 ids"),
        (lambda: search_parameters({"k": 0}), r"k \(0\) must be at least 1"),
        (lambda: query_message({"text": "a", "record": "b"}), r"given: text, record"),
        (lambda: query_message({"text": "a", "negatives": ["b"]}), "negatives need positives"),
        (lambda: tensor_of_vectors([1.0, 2.0]), r"shape \[2\] must have the shape \[n, d\]"),
        (lambda: tensor_of_vectors([["a"]]), "must be numbers"),
        (lambda: next(upsert_requests("c", "abc", {"texts": ["a"]})), "ids must be a list"),
        (lambda: next(upsert_requests("c", ["a"], {"vectors": [[1], [2]]})), r"\[2, 1\] must be \[1, d\]"),
        (lambda: metadata_of_values({"n": 2**63}), "must fit 64 bits"),
        (lambda: metadata_of_values({"at": datetime(2026, 1, 1)}), "needs a time zone"),  # noqa: DTZ001 - what is refused
        (lambda: metadata_of_values({"x": None}), "'x' is of type NoneType"),  # type: ignore[dict-item]  # what is refused
        (lambda: metadata_of_values({"x": ["a", 1]}), "each of its elements must be a str"),  # type: ignore[list-item]  # what is refused
    ],
)
def test_what_contradicts_itself_is_refused_before_it_is_sent(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_large_write_goes_in_several_calls_each_with_its_own_request_id() -> None:
    vectors = np.arange(2_500 * 2, dtype=np.float64).reshape(2_500, 2)
    ids = [str(row) for row in range(2_500)]
    requests = list(upsert_requests("c", ids, {"vectors": vectors, "space": "s"}))
    assert [len(request.records) for request in requests] == [1000, 1000, 500]
    assert len({request.request_id for request in requests}) == 3
    assert requests[1].records[0].id == "1000"
    sent = np.frombuffer(requests[1].vectors.data, "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(sent, vectors[1000:2000])


def test_wide_vectors_make_smaller_calls() -> None:
    vectors = np.zeros((100, 65_536), np.float32)
    requests = list(upsert_requests("c", [str(row) for row in range(100)], {"vectors": vectors}))
    assert [len(request.records) for request in requests] == [63, 37]


def test_large_results_make_smaller_calls() -> None:
    operation = batch_search("c", {"records": [str(row) for row in range(25)], "k": 10_000})
    assert len(next(operation).request.queries) == 10  # type: ignore[attr-defined]  # a batch search


def test_half_precision_stays_half() -> None:
    tensor = tensor_of_vectors(np.ones((1, 2), np.float16))
    assert tensor.data == bytes.fromhex("003c003c")
