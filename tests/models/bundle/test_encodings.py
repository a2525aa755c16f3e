from __future__ import annotations

import numpy as np
import pytest

from models.bundle.encodings import Encoding, encode_binary, encode_int8, read_back, shorten

VECTORS = np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [-2.0, 4.0, 1 / 3]], np.float32)


def test_int8_codes_and_scales() -> None:
    codes, scales = encode_int8(VECTORS)
    assert codes.tolist() == [[64, -127, 32], [0, 0, 0], [-64, 127, 11]]
    assert scales == pytest.approx([1 / 127, 0, 4 / 127])


def test_binary_packs_signs_most_significant_first() -> None:
    assert encode_binary(VECTORS).tolist() == [[0b10100000], [0], [0b01100000]]


def test_a_reader_has_what_the_encoding_kept() -> None:
    assert read_back(VECTORS, Encoding.FLOAT32).tolist() == VECTORS.tolist()
    assert read_back(VECTORS, Encoding.FLOAT16)[2, 2] == np.float32(np.float16(1 / 3)) != np.float32(1 / 3)
    assert read_back(VECTORS, Encoding.INT8)[2] == pytest.approx([-64 * 4 / 127, 4, 11 * 4 / 127])
    assert read_back(VECTORS, Encoding.BINARY).tolist() == [[1, -1, 1], [-1, -1, -1], [-1, 1, 1]]


def test_a_shorter_vector_is_the_first_components_at_unit_length() -> None:
    short = shorten(np.array([[3, 4, 12], [0, 0, 1]], np.float32), 2)
    assert short == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
    assert shorten(VECTORS, 0) is VECTORS
    assert shorten(VECTORS, 3) is VECTORS
