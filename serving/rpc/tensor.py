"""Vectors to wire tensors and back: the only place that knows how their bytes lie."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diptych.v1 import tensor_pb2
from models.bundle.encodings import encode_binary, encode_int8
from serving.errors import InvalidInput

__all__ = ["decode_vector", "decode_vectors", "encode_vectors", "encoded_bytes"]

FLOATS: dict[tensor_pb2.DType.ValueType, str] = {
    tensor_pb2.D_TYPE_FLOAT32: "<f4",
    tensor_pb2.D_TYPE_FLOAT16: "<f2",
}
"""What a vector may be sent as; codes that lose more are for reading only."""
ELEMENT_BITS: dict[int, int] = {
    tensor_pb2.D_TYPE_UNSPECIFIED: 32,
    tensor_pb2.D_TYPE_FLOAT32: 32,
    tensor_pb2.D_TYPE_FLOAT16: 16,
    tensor_pb2.D_TYPE_INT8: 8,
    tensor_pb2.D_TYPE_BINARY: 1,
}


def encoded_bytes(count: int, dimension: int, encoding: tensor_pb2.DType.ValueType) -> int:
    """Returns how many bytes vectors will take, before they are computed.

    Args:
        count: Vectors.
        dimension: Their width.
        encoding: As for `encode_vectors`.

    Returns:
        Bytes of the tensor's data.

    Raises:
        InvalidInput: The encoding is none that is known.
    """
    if encoding not in ELEMENT_BITS:
        raise _unknown_encoding(encoding)
    return count * math.ceil(dimension * ELEMENT_BITS[encoding] / 8)


def encode_vectors(
    vectors: NDArray[np.float32], encoding: tensor_pb2.DType.ValueType = tensor_pb2.D_TYPE_UNSPECIFIED
) -> tensor_pb2.Tensor:
    """Packs vectors in the encoding a caller asked for.

    Args:
        vectors: `[n, d]`, or `[d]`; finite.
        encoding: The element type; unspecified means float32.

    Returns:
        The tensor. int8 codes each row on its own: `value = code * scale`, the largest magnitude being 127.
        Binary holds 1 where a value is above zero, most significant bit first.

    Raises:
        InvalidInput: The encoding is none that is known.
    """
    shape = vectors.shape
    if encoding in (tensor_pb2.D_TYPE_UNSPECIFIED, tensor_pb2.D_TYPE_FLOAT32):
        data = np.ascontiguousarray(vectors, "<f4").tobytes()
        return tensor_pb2.Tensor(data=data, dtype=tensor_pb2.D_TYPE_FLOAT32, shape=shape)
    if encoding == tensor_pb2.D_TYPE_FLOAT16:
        return tensor_pb2.Tensor(data=vectors.astype("<f2").tobytes(), dtype=encoding, shape=shape)
    if encoding == tensor_pb2.D_TYPE_INT8:
        return _encode_int8(vectors)
    if encoding == tensor_pb2.D_TYPE_BINARY:
        return tensor_pb2.Tensor(data=encode_binary(vectors).tobytes(), dtype=encoding, shape=shape)
    raise _unknown_encoding(encoding)


def _unknown_encoding(encoding: int) -> InvalidInput:
    return InvalidInput(f"output_encoding ({encoding}) must be float32, float16, int8 or binary", encoding=encoding)


def _encode_int8(vectors: NDArray[np.float32]) -> tensor_pb2.Tensor:
    codes, scales = encode_int8(np.atleast_2d(vectors))
    tensor = tensor_pb2.Tensor(data=codes.tobytes(), dtype=tensor_pb2.D_TYPE_INT8, shape=vectors.shape)
    if vectors.ndim == 1:
        tensor.scale = float(scales[0])
    else:
        tensor.row_scales.extend(scales.tolist())
    return tensor


def decode_vector(tensor: tensor_pb2.Tensor, *, field: str) -> NDArray[np.float32]:
    """Reads one vector that a caller sent.

    Args:
        tensor: float32 or float16, shape `[d]`.
        field: Where it stood in the request, for the message.

    Returns:
        `[d]`.

    Raises:
        InvalidInput: Another type or shape, or bytes that do not fill it.
    """
    return _decode(tensor, axes=1, field=field)


def decode_vectors(tensor: tensor_pb2.Tensor, *, field: str) -> NDArray[np.float32]:
    """Reads packed vectors that a caller sent.

    Args:
        tensor: float32 or float16, shape `[n, d]`.
        field: Where it stood in the request, for the message.

    Returns:
        `[n, d]`.

    Raises:
        InvalidInput: Another type or shape, or bytes that do not fill it.
    """
    return _decode(tensor, axes=2, field=field)


def _decode(tensor: tensor_pb2.Tensor, *, axes: int, field: str) -> NDArray[np.float32]:
    stored = FLOATS.get(tensor.dtype)
    if stored is None:
        known = tensor.dtype in tensor_pb2.DType.values()
        name = tensor_pb2.DType.Name(tensor.dtype) if known else str(tensor.dtype)
        raise InvalidInput(f"{field}: dtype ({name}) must be D_TYPE_FLOAT32 or D_TYPE_FLOAT16", field=field, dtype=name)
    shape = tuple(tensor.shape)
    if len(shape) != axes or min(shape) < 1:
        wanted = "[d]" if axes == 1 else "[n, d]"
        raise InvalidInput(f"{field}: shape {list(shape)} must be {wanted}, each at least 1", field=field, shape=shape)
    expected_bytes = math.prod(shape) * np.dtype(stored).itemsize
    if len(tensor.data) != expected_bytes:
        raise InvalidInput(
            f"{field}: {len(tensor.data)} bytes do not fill shape {list(shape)}, which needs {expected_bytes}",
            field=field,
            data_bytes=len(tensor.data),
            expected_bytes=expected_bytes,
        )
    return np.frombuffer(tensor.data, stored).reshape(shape).astype(np.float32)
