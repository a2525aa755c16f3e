"""Building an index from the mapped vectors: trained on a bounded sample, filled block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.library import bound_threads, faiss, faiss_metric
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index.ann.shape import describe
from serving.collections.index_types import IndexStructure, Quantiser
from serving.collections.types import Metric

__all__ = ["build_ann"]

_ADD_ROWS = 2_048
_SEED = 1234
_POINTS_A_CENTROID = 64
_LEAST_SAMPLE = 16_384
_SAMPLE_BYTES = 256 << 20
_CENTROID_ROUNDS = 10
_TRAINED_SHARE = 0.1
"""Of the progress, what training counts for where there is any."""


class _CancelledError(Exception):
    """The build is no longer wanted."""


def build_ann(
    vectors: NDArray[np.float32],
    path: Path,
    plan: AnnPlan,
    *,
    metric: Metric,
    scale: float,
    config: CollectionsConfig,
    progress: Callable[[float], bool],
) -> dict[str, Any] | None:
    """Builds an index over all rows and writes it to a file.

    The same rows and plan give the same centroids and codes: samples and starts are drawn from a fixed seed.

    Args:
        vectors: `[n, d]`, n at least 1; possibly mapped from a file.
        path: File to write.
        plan: What to build.
        metric: How closeness is scored.
        scale: Factor that brings the vectors to at most unit length.
        config: Build settings.
        progress: Told the share that is done, in [0, 1]; returns whether to go on.

    Returns:
        Its shape, which it must have when it is opened; `None` where it was stopped: there is then no file.
    """
    bound_threads(config.build_threads)
    index = _make(vectors.shape[1], plan, metric, config)
    try:
        _train(index, vectors, plan, scale, progress)
        done = _TRAINED_SHARE if plan.has_centroids else 0.0
        for start in range(0, len(vectors), _ADD_ROWS):
            _go_on(progress, done + (1 - done) * start / len(vectors))
            index.add(_scaled(vectors[start : start + _ADD_ROWS], scale))
    except _CancelledError:
        return None
    faiss.write_index(index, str(path))
    return describe(index)


def _make(dimension: int, plan: AnnPlan, metric: Metric, config: CollectionsConfig) -> Any:
    number = faiss_metric(metric)
    structure = {
        IndexStructure.FLAT: "IVF1," if plan.has_centroids else "",
        IndexStructure.HNSW: f"HNSW{plan.hnsw_m},",
        IndexStructure.IVF: f"IVF{plan.lists},",
        IndexStructure.IVF_HNSW: f"IVF{plan.lists}_HNSW{plan.hnsw_m},",
    }[plan.structure]
    quantiser = {
        Quantiser.FLOAT32: "Flat",
        Quantiser.FP16: "SQfp16",
        Quantiser.SQ8: "SQ8",
        Quantiser.PQ: f"PQ{plan.pq_segments}x8",
        Quantiser.RABITQ: "RaBitQ",
    }[plan.quantiser]
    index = faiss.index_factory(dimension, structure + quantiser, number)
    if plan.structure is IndexStructure.HNSW:
        index.hnsw.efConstruction = config.ef_construction
    return index


def _train(
    index: Any, vectors: NDArray[np.float32], plan: AnnPlan, scale: float, progress: Callable[[float], bool]
) -> None:
    _go_on(progress, 0.0)
    if index.is_trained:
        return
    wanted = max(_POINTS_A_CENTROID * plan.lists, _LEAST_SAMPLE)
    sample = _sample(vectors, wanted, scale)
    if plan.has_centroids:
        _train_centroids(index, sample, max(plan.lists, 1), progress)
    if plan.quantiser is Quantiser.PQ:
        _prepare_product(faiss.downcast_index(index.storage) if hasattr(index, "storage") else index)
    index.train(sample)


def _prepare_product(coder: Any) -> None:
    # Reordering the codes for comparisons by Hamming distance, which are not used, takes a hundred times as long as
    # learning them.
    coder.do_polysemous_training = False
    # Below 39 points for each of its 256 codes FAISS prints a warning; such collections are hardly worth an index.
    coder.pq.cp.min_points_per_centroid = 1


def _train_centroids(index: Any, sample: NDArray[np.float32], lists: int, progress: Callable[[float], bool]) -> None:
    """Trains the centroids round by round, so that a build can be stopped within one of them."""
    clustering = faiss.Clustering(sample.shape[1], lists)
    clustering.niter = 1
    clustering.seed = _SEED
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = len(sample)
    assigner = faiss.IndexFlatL2(sample.shape[1])
    for turn in range(_CENTROID_ROUNDS):
        _go_on(progress, _TRAINED_SHARE * turn / _CENTROID_ROUNDS)
        assigner.reset()
        clustering.train(sample, assigner)
    centroids = faiss.vector_to_array(clustering.centroids).reshape(lists, -1)
    index.quantizer.reset()
    index.quantizer.add(centroids)
    # With all its centroids there, FAISS trains the codes alone.
    index.quantizer.is_trained = True


def _sample(vectors: NDArray[np.float32], wanted: int, scale: float) -> NDArray[np.float32]:
    count = min(len(vectors), wanted, max(1, _SAMPLE_BYTES // (4 * vectors.shape[1])))
    rows = np.random.default_rng(_SEED).choice(len(vectors), count, replace=False)
    rows.sort()
    return _scaled(vectors[rows], scale)


def _scaled(vectors: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    scaled = np.ascontiguousarray(vectors)
    return scaled if scale == 1 else scaled * np.float32(scale)


def _go_on(progress: Callable[[float], bool], share: float) -> None:
    if not progress(share):
        raise _CancelledError
