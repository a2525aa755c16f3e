from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.identity import (
    compute_fingerprint,
    compute_own_space,
    compute_space,
    digest,
    digest_preprocessing,
    digest_tensors,
    digest_tokenizer,
)
from models.bundle.preprocessing import ImagePreprocessing
from tests.models.bundle.tiny_bundle import make_tokenizer

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, dtype=np.float32)}


def test_the_order_of_tensors_does_not_matter() -> None:
    assert digest_tensors(TENSORS) == digest_tensors(dict(reversed(TENSORS.items())))


def test_counters_and_index_tables_do_not_matter() -> None:
    assert digest_tensors(TENSORS) == digest_tensors({**TENSORS, "num_batches_tracked": np.array(3)})


def test_byte_order_and_memory_layout_do_not_matter() -> None:
    other = {"a": np.asfortranarray(TENSORS["a"]).astype(">f4"), "b": TENSORS["b"]}
    assert digest_tensors(TENSORS) == digest_tensors(other)


@pytest.mark.parametrize(
    "other",
    [
        {**TENSORS, "a": TENSORS["a"] + np.float32(1e-6)},
        {**TENSORS, "a": TENSORS["a"].reshape(3, 2)},
        {**TENSORS, "a": TENSORS["a"].astype(np.float64)},
        {"a": TENSORS["a"], "c": TENSORS["b"]},
        {"a": TENSORS["a"]},
    ],
)
def test_value_shape_type_name_and_number_matter(other: dict[str, NDArray[Any]]) -> None:
    assert digest_tensors(other) != digest_tensors(TENSORS)


def test_each_part_of_a_space_matters() -> None:
    parts = {"tensors_sha256": "t", "preprocessing_sha256": "p", "pooling": "mean", "document_prompt": ""}
    spaces = {compute_space(**parts)} | {compute_space(**{**parts, key: "other"}) for key in parts}
    assert len(spaces) == 5
    assert all(len(space) == 32 for space in spaces)


def test_parts_do_not_run_into_each_other() -> None:
    one = compute_space(tensors_sha256="ab", preprocessing_sha256="c", pooling="", document_prompt="")
    two = compute_space(tensors_sha256="a", preprocessing_sha256="bc", pooling="", document_prompt="")
    assert one != two


def test_each_part_of_a_fingerprint_matters() -> None:
    def name(space: str = "s", precision: str = "fp32", graph: str = "g", prompt: str = "", limits: int = 8) -> str:
        return compute_fingerprint(
            space=space,
            precision=precision,
            graph_sha256=graph,
            query_prompt=prompt,
            limits={"max_tokens": limits, "image_size_px": 0},
        )

    names = {name(), name(space="x"), name(precision="int8"), name(graph="x"), name(prompt="x"), name(limits=9)}
    assert len(names) == 6


def test_an_own_space_is_neither_the_space_nor_another_graphs() -> None:
    assert (
        len({"s", compute_own_space(space="s", graph_sha256="a"), compute_own_space(space="s", graph_sha256="b")}) == 3
    )


def test_preparing_images_otherwise_is_another_space_and_what_is_off_is_none_of_it() -> None:
    plain = ImagePreprocessing(size_px=32, background=(1, 2, 3))
    assert digest_preprocessing(plain) == digest(
        {
            "size_px": 32,
            "resize": "squash",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "background": [1, 2, 3],
            "shortest_edge_px": None,
        }
    )
    assert digest_preprocessing(replace(plain, jpeg_draft=True)) != digest_preprocessing(plain)


def test_a_tokenizers_padding_and_truncation_do_not_matter_but_its_words_do() -> None:
    plain = make_tokenizer()
    padded = make_tokenizer()
    padded.enable_padding(length=9)
    padded.enable_truncation(4)
    other = json.loads(plain.to_str())
    other["model"]["vocab"]["cat"] = 99

    assert digest_tokenizer(plain.to_str(pretty=True)) == digest_tokenizer(padded.to_str())
    assert digest_tokenizer(plain.to_str()) != digest_tokenizer(json.dumps(other))
