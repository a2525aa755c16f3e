"""numpy arrays to wire tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.v1 import tensor_pb2

__all__ = ["array_of_tensor", "encoding_of", "tensor_of_vector", "tensor_of_vectors"]

ENCODINGS: dict[str, tensor_pb2.DType.ValueType] = {
    "float32": tensor_pb2.D_TYPE_FLOAT32,
    "float16": tensor_pb2.D_TYPE_FLOAT16,
    "int8": tensor_pb2.D_TYPE_INT8,
    "binary": tensor_pb2.D_TYPE_BINARY,
}
STORED: dict[int, str] = {
    tensor_pb2.D_TYPE_FLOAT32: "<f4",
    tensor_pb2.D_TYPE_FLOAT16: "<f2",
    tensor_pb2.D_TYPE_INT8: "i1",
}


def encoding_of(name: str) -> tensor_pb2.DType.ValueType:
    """Returns the wire's word for an encoding.

    Args:
        name: `float32`, `float16`, `int8` or `binary`.

    Returns:
        The enum's value.

    Raises:
        ValueError: It is none of these.
    """
    if name not in ENCODINGS:
        raise ValueError(f"encoding ({name!r}) must be one of {', '.join(ENCODINGS)}")
    return ENCODINGS[name]


def tensor_of_vector(vector: ArrayLike) -> tensor_pb2.Tensor:
    """Packs one vector.

    Args:
        vector: `[d]`; float16 is sent as it is, everything else as float32.

    Returns:
        The tensor.

    Raises:
        ValueError: It has another shape.
    """
    return _tensor(np.asarray(vector), axes=1, wanted="[d]")


def tensor_of_vectors(vectors: ArrayLike) -> tensor_pb2.Tensor:
    """Packs several vectors.

    Args:
        vectors: `[n, d]`; float16 is sent as it is, everything else as float32.

    Returns:
        The tensor.

    Raises:
        ValueError: They have another shape.
    """
    return _tensor(np.asarray(vectors), axes=2, wanted="[n, d]")


def _tensor(array: NDArray[Any], *, axes: int, wanted: str) -> tensor_pb2.Tensor:
    if array.ndim != axes:
        raise ValueError(f"vectors of shape {list(array.shape)} must have the shape {wanted}")
    if array.dtype == np.float16:
        return tensor_pb2.Tensor(data=array.tobytes(), dtype=tensor_pb2.D_TYPE_FLOAT16, shape=array.shape)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"vectors of type {array.dtype} must be numbers")
    return tensor_pb2.Tensor(data=array.astype("<f4").tobytes(), dtype=tensor_pb2.D_TYPE_FLOAT32, shape=array.shape)


def array_of_tensor(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """Unpacks a tensor, without a copy.

    Args:
        tensor: From a server.

    Returns:
        Read-only: float32, float16 or int8 of the tensor's shape; binary as uint8, eight dimensions a byte.
    """
    shape = tuple(tensor.shape)
    if tensor.dtype == tensor_pb2.D_TYPE_BINARY:
        return np.frombuffer(tensor.data, np.uint8).reshape(*shape[:-1], -1)
    return np.frombuffer(tensor.data, STORED[tensor.dtype]).reshape(shape)
