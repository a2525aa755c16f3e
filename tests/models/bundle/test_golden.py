from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Modality, Prepared, Purpose
from models.bundle.errors import BundleError
from models.bundle.golden import Agreement, Golden, find_agreement_fault, measure_agreement
from models.bundle.manifest import EncoderEntry
from tests.models.bundle.tiny_bundle import make_text_bundle

VECTORS = np.eye(4, 3, dtype=np.float32) + np.float32(0.1)
GOLDEN = Golden(items=("0", "1", "2", "3"), vectors=VECTORS)


Change = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


def same(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return vectors


def nothing_but_nan(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.full_like(vectors, np.nan)


def narrower(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return vectors[:, :2]


class FakeEncoder:
    """Gives the golden vectors, changed as the test says; the change sees the batch's size."""

    def __init__(self, change: Change = same) -> None:
        self._change = change
        self.sizes: list[int] = []

    @property
    def info(self) -> EncoderInfo:
        raise NotImplementedError

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        return Prepared(np.array([int(item)]), 1)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        self.sizes.append(len(batch))
        rows = [int(item.array[0]) for item in batch]
        return self._change(VECTORS[rows].copy(), len(batch))


@pytest.fixture
def entry(tmp_path: Path) -> EncoderEntry:
    return make_text_bundle(tmp_path / "b", int8_noise=0.01).encoders[0]


def test_every_form_is_run_and_agrees() -> None:
    encoder = FakeEncoder()
    found = measure_agreement(encoder, GOLDEN, batch_sizes=(3, 8))
    assert encoder.sizes == [1, 1, 1, 1, 3, 1, 4]
    assert (found.golden_deviation, found.batch_deviation) == (0, 0)
    assert found.golden_cosine == pytest.approx(1)


def test_the_worst_component_and_the_worst_cosine_count() -> None:
    def tilt(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        tilted: NDArray[np.float32] = vectors + np.array([0.0, 0.0, 0.03], np.float32)
        return tilted

    found = measure_agreement(FakeEncoder(tilt), GOLDEN, batch_sizes=(4,))
    scale = np.linalg.norm(VECTORS, axis=1).max()
    tilted = tilt(VECTORS, 1)
    norms = np.linalg.norm(tilted, axis=1) * np.linalg.norm(VECTORS, axis=1)
    cosines = (tilted * VECTORS).sum(axis=1) / norms
    assert found.golden_deviation == pytest.approx(0.03 / scale, rel=1e-5)
    assert found.golden_cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert found.batch_deviation == 0


def test_a_vector_that_depends_on_its_batch_is_refused(entry: EncoderEntry) -> None:
    def lean(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        return vectors + np.float32(0.005 * (size - 1))

    found = measure_agreement(FakeEncoder(lean), GOLDEN, batch_sizes=(2, 4))
    assert found.batch_deviation == pytest.approx(0.015 / np.linalg.norm(VECTORS, axis=1).max(), rel=1e-4)
    fault = find_agreement_fault(entry, "int8", found)
    assert fault is not None
    assert "gives an input another vector in a batch than alone" in fault


def test_a_graph_that_gives_no_number_is_refused(entry: EncoderEntry) -> None:
    broken = FakeEncoder(nothing_but_nan)
    found = measure_agreement(broken, GOLDEN, batch_sizes=(4,))
    assert found.golden_deviation == float("inf")
    assert found.golden_cosine == -1
    for precision in ("fp32", "int8"):
        assert find_agreement_fault(entry, precision, found) is not None


def test_only_the_first_inputs_run_alone_where_told() -> None:
    encoder = FakeEncoder()
    measure_agreement(encoder, GOLDEN, batch_sizes=(4,), alone=2)
    assert encoder.sizes == [1, 1, 4]


def test_another_width_is_refused() -> None:
    with pytest.raises(BundleError, match=r"the graph returns vectors \[4, 2\], not \[4, 3\]"):
        measure_agreement(FakeEncoder(narrower), GOLDEN, batch_sizes=())


@pytest.mark.parametrize(("deviation", "accepted"), [(1e-5, True), (1.1e-5, False), (float("nan"), False)])
def test_fp32_is_held_to_the_tolerance(entry: EncoderEntry, deviation: float, accepted: bool) -> None:
    assert entry.modality is Modality.TEXT
    agreement = Agreement(golden_deviation=deviation, golden_cosine=1.0, batch_deviation=0.0)
    assert (find_agreement_fault(entry, "fp32", agreement) is None) is accepted
