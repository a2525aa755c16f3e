from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from diptych.v1 import tensor_pb2
from serving.errors import InvalidInput
from serving.rpc.tensor import decode_vector, decode_vectors, encode_vectors, encoded_bytes

VECTORS = np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [-2.0, 4.0, 0.0]], np.float32)


def test_float32_is_little_endian_in_c_order() -> None:
    tensor = encode_vectors(np.array([[1.0, -2.0]], np.float32))
    assert tensor.data == bytes.fromhex("0000803f000000c0")
    assert tensor.dtype == tensor_pb2.D_TYPE_FLOAT32
    assert list(tensor.shape) == [1, 2]


def test_float16_rounds_to_half_precision() -> None:
    tensor = encode_vectors(np.array([1.0, 1 / 3], np.float32), tensor_pb2.D_TYPE_FLOAT16)
    assert tensor.data == bytes.fromhex("003c5535")
    assert list(tensor.shape) == [2]


def test_int8_gives_each_row_its_own_scale_and_a_row_of_zeros_none() -> None:
    tensor = encode_vectors(VECTORS, tensor_pb2.D_TYPE_INT8)
    codes = np.frombuffer(tensor.data, np.int8).reshape(3, 3)
    assert codes.tolist() == [[64, -127, 32], [0, 0, 0], [-64, 127, 0]]
    np.testing.assert_allclose(tensor.row_scales, [1 / 127, 0, 4 / 127], rtol=1e-6)
    assert tensor.scale == 0


def test_int8_of_a_row_does_not_depend_on_its_neighbours() -> None:
    alone = encode_vectors(VECTORS[:1], tensor_pb2.D_TYPE_INT8)
    beside = encode_vectors(VECTORS, tensor_pb2.D_TYPE_INT8)
    assert beside.data[:3] == alone.data
    assert beside.row_scales[0] == alone.row_scales[0]


def test_int8_of_one_vector_has_one_scale() -> None:
    tensor = encode_vectors(VECTORS[2], tensor_pb2.D_TYPE_INT8)
    assert tensor.scale == pytest.approx(4 / 127)
    assert not tensor.row_scales


def test_binary_holds_sign_bits_most_significant_first_each_row_in_whole_bytes() -> None:
    rows = np.array([[1, -1, 1, 1, 0, -1, -1, 1, 1], [-1] * 8 + [0.5]], np.float32)
    tensor = encode_vectors(rows, tensor_pb2.D_TYPE_BINARY)
    assert tensor.data == bytes([0b10110001, 0b10000000, 0b00000000, 0b10000000])
    assert list(tensor.shape) == [2, 9]


@pytest.mark.parametrize("encoding", [0, 1, 2, 3, 4])
def test_the_bytes_of_a_tensor_are_known_before_it_is_made(encoding: tensor_pb2.DType.ValueType) -> None:
    vectors = np.ones((3, 16), np.float32)
    assert encoded_bytes(3, 16, encoding) == len(encode_vectors(vectors, encoding).data)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"output_encoding \(9\) must be float32, float16, int8 or binary"):
        encoded_bytes(1, 1, 9)  # type: ignore[arg-type]  # what a newer client might send


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-10, 10, width=16)))
def test_float32_and_float16_come_back_as_sent(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    for encoding in (tensor_pb2.D_TYPE_FLOAT32, tensor_pb2.D_TYPE_FLOAT16):
        np.testing.assert_array_equal(decode_vectors(encode_vectors(vectors, encoding), field="vectors"), vectors)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (tensor_pb2.Tensor(), r"vector: dtype \(D_TYPE_UNSPECIFIED\) must be D_TYPE_FLOAT32 or D_TYPE_FLOAT16"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_INT8, shape=[1], data=b"1"), r"dtype \(D_TYPE_INT8\)"),
        (
            tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[1, 1], data=b"1234"),
            r"shape \[1, 1\] must be \[d\]",
        ),
        (tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[0]), r"shape \[0\] must be \[d\], each at least 1"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[-1], data=b"1234"), r"each at least 1"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[2], data=b"1234"), r"4 bytes do not fill .* 8"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[2**62], data=b"1234"), r"4 bytes do not fill"),
    ],
)
def test_a_tensor_that_is_no_vector_is_refused(tensor: tensor_pb2.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_vector(tensor, field="vector")
