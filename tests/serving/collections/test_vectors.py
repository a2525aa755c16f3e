from __future__ import annotations

import numpy as np
import pytest

from serving.collections.types import CollectionSpec, Metric
from serving.collections.vectors import check_space, prepare_queries, prepare_vectors
from serving.errors import DimensionMismatch, InputTooLarge, InvalidInput, SpaceMismatch

COSINE = CollectionSpec(name="c", space="s", dimension=3)
L2 = CollectionSpec(name="c", space="s", dimension=3, metric=Metric.L2)


def row(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_cosine_vectors_become_unit() -> None:
    prepared, errors = prepare_vectors(COSINE, [row(3, 0, 4), row(1e-30, 0, 0), row(1e30, 1e30, 0)])

    assert not errors
    expected = np.array([[0.6, 0, 0.8], [1, 0, 0], [np.sqrt(0.5), np.sqrt(0.5), 0]])
    np.testing.assert_allclose(prepared, expected, rtol=1e-6)


def test_a_unit_vector_is_kept_bit_for_bit() -> None:
    vector = np.random.default_rng(0).standard_normal(3).astype(np.float32)
    vector /= np.float32(np.linalg.norm(vector))
    prepared, _ = prepare_vectors(COSINE, [vector])
    assert prepared[0].tobytes() == vector.tobytes()


def test_other_metrics_keep_vectors_as_they_are() -> None:
    prepared, errors = prepare_vectors(L2, [row(3, 0, 4), row(0, 0, 0)])
    assert not errors
    assert prepared.tolist() == [[3, 0, 4], [0, 0, 0]]


def test_each_bad_vector_is_an_error_of_its_index_and_leaves_a_zero_row() -> None:
    vectors = [row(1, 0, 0), row(0, 0, 0), row(np.nan, 0, 1), row(np.inf, 0, 1), row(1, 0), np.ones((1, 3), np.float32)]

    prepared, errors = prepare_vectors(COSINE, vectors)

    assert sorted(errors) == [1, 2, 3, 4, 5]
    assert isinstance(errors[4], DimensionMismatch)
    assert isinstance(errors[5], DimensionMismatch)
    assert errors[4].metadata == {"collection": "c", "collection_dimension": "3", "shape": "[2]"}
    assert "zero" in errors[1].message
    assert "NaN or infinity" in errors[2].message
    assert prepared.tolist() == [[1, 0, 0]] + 5 * [[0, 0, 0]]


def test_a_double_that_overflows_float32_is_infinite() -> None:
    _, errors = prepare_vectors(L2, [np.array([1e300, 0, 0])])
    assert "NaN or infinity" in errors[0].message


def test_vectors_whose_squared_distance_would_overflow_are_refused() -> None:
    _, errors = prepare_vectors(L2, [row(2e18, 0, 0)])
    assert "norm" in errors[0].message


def test_queries_name_the_bad_one() -> None:
    with pytest.raises(InvalidInput, match="query 1: the vector is zero"):
        prepare_queries(COSINE, np.array([[1, 0, 0], [0, 0, 0]], dtype=np.float32))


def test_queries_of_another_width_are_refused_before_they_are_read() -> None:
    with pytest.raises(DimensionMismatch):
        prepare_queries(COSINE, np.full((2, 4), np.nan, dtype=np.float32))


def test_a_single_vector_is_no_matrix_of_queries() -> None:
    with pytest.raises(InvalidInput, match=r"\[m, d\]"):
        prepare_queries(COSINE, row(1, 0, 0))


def test_too_many_queries_are_refused() -> None:
    with pytest.raises(InputTooLarge, match="1001"):
        prepare_queries(COSINE, np.ones((1001, 3), dtype=np.float32))


@pytest.mark.parametrize(("held", "stated"), [("s", "t"), ("s", ""), ("", "s")])
def test_only_the_same_space_passes(held: str, stated: str) -> None:
    spec = CollectionSpec(name="c", space=held, dimension=3)
    check_space(spec, held)
    with pytest.raises(SpaceMismatch) as caught:
        check_space(spec, stated)
    assert caught.value.metadata == {"collection": "c", "collection_space": held, "space": stated}
