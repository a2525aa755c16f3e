from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.build import build_ann
from serving.collections.index.ann.effort import Effort
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index.ann.search import Ann
from serving.collections.index.ann.shape import describe
from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser
from serving.collections.types import Metric

CONFIG = CollectionsConfig(search_threads=1, build_threads=1)
DIMENSION = 32
COUNT = 800
QUERIES = 30
STRUCTURES = [structure for structure in IndexStructure if structure is not IndexStructure.AUTO]
QUANTISERS = [quantiser for quantiser in Quantiser if quantiser is not Quantiser.AUTO]


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, DIMENSION))
    return (centres[rng.integers(0, 20, count)] + 0.6 * rng.standard_normal((count, DIMENSION))).astype(np.float32)


def data(metric: Metric, count: int, seed: int) -> NDArray[np.float32]:
    vectors = clustered(count, seed)
    if metric is Metric.COSINE:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Lengths that float16 could not hold.
    return vectors if metric is Metric.COSINE else vectors * np.float32(1e6)


def scores(queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    wide, rows = queries.astype(np.float64), vectors.astype(np.float64)
    products: NDArray[np.float64] = wide @ rows.T
    if metric is not Metric.L2:
        return products
    products *= 2
    products -= np.sum(rows**2, axis=1)
    products -= np.sum(wide**2, axis=1)[:, None]
    return products


def plan_of(structure: IndexStructure, quantiser: Quantiser) -> AnnPlan:
    return AnnPlan(
        structure=structure,
        quantiser=quantiser,
        hnsw_m=16 if structure in (IndexStructure.HNSW, IndexStructure.IVF_HNSW) else 0,
        lists=16 if structure in (IndexStructure.IVF, IndexStructure.IVF_HNSW) else 0,
        pq_segments=8 if quantiser is Quantiser.PQ else 0,
    )


def build(path: Path, plan: AnnPlan, metric: Metric, vectors: NDArray[np.float32]) -> Ann:
    scale = 1.0 if metric is Metric.COSINE else 1 / float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
    told: list[float] = []

    def progress(share: float) -> bool:
        told.append(share)
        return True

    shape = build_ann(vectors, path, plan, metric=metric, scale=scale, config=CONFIG, progress=progress)
    assert shape is not None
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1
    return Ann(path, plan, IndexSpec(), CONFIG, shape=shape, scale=scale)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_each_kind_finds_the_nearest_of_those_that_a_selector_lets_through(
    tmp_path: Path, structure: IndexStructure, quantiser: Quantiser, metric: Metric
) -> None:
    if (structure, quantiser, metric) == (IndexStructure.HNSW, Quantiser.RABITQ, Metric.INNER_PRODUCT):
        pytest.skip("refused, see test_capabilities")
    vectors, queries = data(metric, COUNT, 1), data(metric, QUERIES, 2)
    ann = build(tmp_path / "index.faiss", plan_of(structure, quantiser), metric, vectors)
    assert len(ann) == COUNT

    allowed = np.random.default_rng(3).random(COUNT) < 0.6
    for bits, mask in ((None, np.ones(COUNT, dtype=bool)), (np.packbits(allowed, bitorder="little"), allowed)):
        true = scores(queries, vectors, metric)
        true[:, ~mask] = -np.inf
        best = np.argsort(-true, axis=1)[:, :10]
        found = ann.candidates(queries, 15, bits)
        assert all(mask[rows].all() and len(set(rows.tolist())) == len(rows) for rows in found)
        recall = np.mean(
            [len(set(rows.tolist()) & set(top.tolist())) / 10 for rows, top in zip(found, best, strict=True)]
        )
        assert recall >= 0.98


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_a_plan_says_what_its_file_takes(tmp_path: Path, structure: IndexStructure, quantiser: Quantiser) -> None:
    plan = plan_of(structure, quantiser)
    ann = build(tmp_path / "index.faiss", plan, Metric.COSINE, data(Metric.COSINE, COUNT, 1))
    codebooks = 4 * DIMENSION * plan.lists + (4 * 256 * DIMENSION if quantiser is Quantiser.PQ else 0)
    if structure is IndexStructure.IVF_HNSW:
        codebooks += plan.lists * (8 * plan.hnsw_m + 16)
    expected = plan.bytes_per_vector(DIMENSION) * COUNT + codebooks
    assert ann.size_bytes == pytest.approx(expected, rel=0.15)


def test_the_same_rows_give_the_same_centroids_and_codes(tmp_path: Path) -> None:
    vectors = data(Metric.COSINE, COUNT, 1)
    plan = plan_of(IndexStructure.IVF, Quantiser.PQ)
    for name in ("a", "b"):
        build(tmp_path / name, plan, Metric.COSINE, vectors)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_build_can_be_stopped_while_it_trains_and_while_it_adds(tmp_path: Path) -> None:
    vectors = data(Metric.COSINE, 5_000, 1)
    goes_on: list[Callable[[float], bool]] = [lambda share: share < 0.05, lambda share: share < 0.5]
    for progress in goes_on:
        shape = build_ann(
            vectors,
            tmp_path / "index.faiss",
            plan_of(IndexStructure.IVF, Quantiser.SQ8),
            metric=Metric.COSINE,
            scale=1.0,
            config=CONFIG,
            progress=progress,
        )
        assert shape is None
        assert not (tmp_path / "index.faiss").exists()


def test_more_effort_finds_more(tmp_path: Path) -> None:
    vectors, queries = data(Metric.COSINE, COUNT, 1), data(Metric.COSINE, QUERIES, 2)
    ann = build(tmp_path / "index.faiss", plan_of(IndexStructure.IVF, Quantiser.FLOAT32), Metric.COSINE, vectors)
    ann.effort = Effort(probes=1)
    few = ann.candidates(queries, 200, None)
    ann.effort = Effort(probes=16)
    many = ann.candidates(queries, 200, None)
    assert sum(map(len, few)) < sum(map(len, many)) == 200 * QUERIES


@pytest.mark.parametrize("structure", [IndexStructure.HNSW, IndexStructure.IVF_HNSW])
def test_a_link_that_leads_nowhere_is_found_before_faiss_follows_it(tmp_path: Path, structure: IndexStructure) -> None:
    path = tmp_path / "index.faiss"
    plan = plan_of(structure, Quantiser.FP16)
    vectors = data(Metric.COSINE, COUNT, 1)
    shape = build_ann(vectors, path, plan, metric=Metric.COSINE, scale=1.0, config=CONFIG, progress=lambda _: True)
    assert shape is not None
    content = bytearray(path.read_bytes())
    # Absent links are -1; the first run of them lies among the links.
    place = content.index(b"\xff\xff\xff\xff" * 4)
    content[place : place + 4] = (10**6).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match="out of range"):
        Ann(path, plan, IndexSpec(), CONFIG, shape=shape)


def test_an_index_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    plan = plan_of(IndexStructure.IVF, Quantiser.SQ8)
    ann = build(path, plan, Metric.COSINE, data(Metric.COSINE, COUNT, 1))
    shape = describe(ann._index)
    assert (shape["nlist"], shape["list_vectors"], shape["quantizer"]["ntotal"]) == (16, COUNT, 16)
    with pytest.raises(ValueError, match="shape"):
        Ann(path, plan, IndexSpec(), CONFIG, shape={**shape, "list_vectors": COUNT + 1})
