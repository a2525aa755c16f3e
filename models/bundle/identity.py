"""Names that are computed: which space a vector lives in, and which artefact made it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.strict_json import canonical_json, parse_json

__all__ = [
    "MIN_SHARED_COSINE",
    "MIN_USABLE_COSINE",
    "compute_fingerprint",
    "compute_own_space",
    "compute_space",
    "digest",
    "digest_file",
    "digest_preprocessing",
    "digest_tensors",
    "digest_tokenizer",
]

MIN_SHARED_COSINE: Final = 0.99
"""A quantised graph shares the space of its fp32 graph while its worst golden cosine is at least this."""
MIN_USABLE_COSINE: Final = 0.9
"""Below this a quantised graph is refused: it no longer says what the encoder learned."""

_ID_LENGTH: Final = 32  # 128 bits, in hexadecimal: no two spaces meet by chance
_CHUNK_BYTES: Final = 1 << 20


def digest(value: Any) -> str:
    """Returns the sha256 of a JSON value's canonical text, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def digest_tensors(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Returns one hash over tensors, whatever order they come in.

    Args:
        tensors: By name; only those of floating point are taken, since counters and index tables are not learned.

    Returns:
        The sha256 in hexadecimal, over name, type, shape and little-endian content in the order of the names.
    """
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.asarray(tensors[name])
        if not np.issubdtype(tensor.dtype, np.floating):
            continue
        stored = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        hasher.update(canonical_json([name, stored.dtype.str, list(tensor.shape)]).encode())
        hasher.update(stored.tobytes())
    return hasher.hexdigest()


def digest_tokenizer(tokenizer_json: str) -> str:
    """Returns the hash of how a `tokenizer.json` splits text; truncation and padding, which are ours, left out."""
    values = parse_json(tokenizer_json, "tokenizer.json")
    return digest({key: value for key, value in values.items() if key not in {"truncation", "padding"}})


def digest_preprocessing(preprocessing: ImagePreprocessing) -> str:
    """Returns the hash of how images are prepared; what is off by default counts only where it is on."""
    values = asdict(preprocessing)
    if not preprocessing.jpeg_draft:
        del values["jpeg_draft"]
    return digest(values)


def compute_space(*, tensors_sha256: str, preprocessing_sha256: str, pooling: str, document_prompt: str) -> str:
    """Names the embedding space: vectors may be compared exactly where this is equal.

    Args:
        tensors_sha256: From `digest_tensors`.
        preprocessing_sha256: From `digest_tokenizer` or `digest_preprocessing`.
        pooling: How states become one vector.
        document_prompt: What is written before a document.

    Returns:
        32 hexadecimal digits.
    """
    parts = ["diptych space 1", tensors_sha256, preprocessing_sha256, pooling, document_prompt]
    return digest(parts)[:_ID_LENGTH]


def compute_own_space(*, space: str, graph_sha256: str) -> str:
    """Names the space of a quantised graph that strayed too far from the space it was made from.

    Args:
        space: Space of the fp32 graph.
        graph_sha256: Of the quantised graph's file.

    Returns:
        32 hexadecimal digits.
    """
    return digest(["diptych own space 1", space, graph_sha256])[:_ID_LENGTH]


def compute_fingerprint(
    *, space: str, precision: str, graph_sha256: str, query_prompt: str, limits: Mapping[str, int]
) -> str:
    """Names the exact artefact that made a vector.

    Args:
        space: The space its vectors live in.
        precision: `fp32` or `int8`.
        graph_sha256: Of the graph's file.
        query_prompt: What is written before a query.
        limits: Longest text or size of the image: an over-long text's vector depends on it.

    Returns:
        32 hexadecimal digits.
    """
    parts = ["diptych artefact 1", space, precision, graph_sha256, query_prompt, dict(limits)]
    return digest(parts)[:_ID_LENGTH]
