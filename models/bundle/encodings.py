"""What a vector may be sent as: how each encoding is made, and what its reader has of the vector."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ELEMENT_BITS", "Encoding", "encode_binary", "encode_int8", "read_back", "shorten"]

_INT8_PEAK: Final = 127


class Encoding(StrEnum):
    """How the components of a vector are written."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    """A code in [-127, 127] a component, one scale a vector: `value = code * scale`."""
    BINARY = "binary"
    """A bit a component: whether it is above zero."""


ELEMENT_BITS: Final = {Encoding.FLOAT32: 32, Encoding.FLOAT16: 16, Encoding.INT8: 8, Encoding.BINARY: 1}
"""What a component takes."""


def encode_int8(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes each row on its own, the largest magnitude being 127.

    Args:
        vectors: `[n, d]`, finite.

    Returns:
        Codes `[n, d]` and scales `[n]`: `value = code * scale`. A row of zeros has codes and scale 0.
    """
    scales = np.abs(vectors).max(axis=1, initial=0.0) / _INT8_PEAK  # [n]
    # A row of zeros has no scale to divide by; its codes are zero whatever the divisor.
    codes = np.rint(vectors / np.where(scales > 0, scales, 1.0)[:, None]).astype(np.int8)
    return codes, scales


def encode_binary(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Keeps of each component whether it is above zero.

    Args:
        vectors: `[n, d]` or `[d]`.

    Returns:
        `[n, ceil(d / 8)]` or `[ceil(d / 8)]`: 1 for above zero, most significant bit first, each row in whole bytes.
    """
    return np.packbits(vectors > 0, axis=-1)


def read_back(vectors: NDArray[np.float32], encoding: Encoding) -> NDArray[np.float32]:
    """Returns what a reader has of encoded vectors.

    Args:
        vectors: `[n, d]`, finite.
        encoding: What they are sent as.

    Returns:
        `[n, d]`; of binary, 1 for a set bit and -1 for another, whose inner product counts the bits that agree.
    """
    if encoding is Encoding.FLOAT16:
        return vectors.astype("<f2").astype(np.float32)
    if encoding is Encoding.INT8:
        codes, scales = encode_int8(vectors)
        return codes.astype(np.float32) * scales[:, None]
    if encoding is Encoding.BINARY:
        bits = np.unpackbits(encode_binary(vectors), axis=-1, count=vectors.shape[1])
        return 2 * bits.astype(np.float32) - 1
    return vectors


def shorten(vectors: NDArray[np.float32], output_dimension: int) -> NDArray[np.float32]:
    """Keeps the first components of each vector and scales it back to unit length.

    Args:
        vectors: `[n, d]`; rows may be zero.
        output_dimension: Components to keep, in [1, d]; 0 keeps all and changes nothing.

    Returns:
        `[n, output_dimension]`, unit rows; zero rows stay zero.
    """
    if output_dimension in (0, vectors.shape[1]):
        return vectors
    kept = vectors[:, :output_dimension]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)  # [n, 1]
    shortened: NDArray[np.float32] = np.divide(kept, norms, out=np.zeros_like(kept), where=norms > 0)
    return shortened
