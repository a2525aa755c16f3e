"""The HNSW graph, and the only file that knows FAISS.

Nodes are numbered by their row in the base. Cosine collections keep float16 in the graph: half the memory of float32,
and on unit vectors its error (2^-11) only blurs the order of candidates, which are scored again from float32. Vectors
of any length may leave float16's range, so the other metrics keep float32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss as untyped_faiss
import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.types import Metric

__all__ = ["Graph", "build_graph"]

# FAISS's stubs lack the search parameters, and give selectors the signature of C++ in place of Python's.
faiss: Any = untyped_faiss

_ADD_ROWS = 2_048
_thread = threading.local()


class Graph:
    """An immutable graph, mapped from its file.

    Args:
        path: File that `build_graph` wrote.
        config: Search settings.

    Raises:
        RuntimeError: The file is no such graph.
    """

    def __init__(self, path: Path, config: CollectionsConfig) -> None:
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self._config = config

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def candidates(
        self, queries: NDArray[np.float32], count: int, alive_bits: NDArray[np.uint8] | None
    ) -> list[NDArray[np.int64]]:
        """Returns for each query rows that are probably its nearest.

        Args:
            queries: `[m, d]`.
            count: Rows wanted a query.
            alive_bits: `[ceil(n / 8)]`, one bit a row, least significant first: rows that may be returned; `None`: all.

        Returns:
            Per query at most `count` row numbers.
        """
        _bound_threads(self._config.search_threads)
        selector = None if alive_bits is None else faiss.IDSelectorBitmap(alive_bits)
        parameters = faiss.SearchParametersHNSW(efSearch=max(self._config.ef_search, 2 * count), sel=selector)
        _, found = self._index.search(queries, count, params=parameters)
        return [row[row >= 0] for row in found]


def build_graph(
    vectors: NDArray[np.float32],
    path: Path,
    *,
    metric: Metric,
    config: CollectionsConfig,
    cancelled: Callable[[], bool],
) -> bool:
    """Builds a graph over all rows and writes it to a file.

    Args:
        vectors: `[n, d]`, n at least 1; possibly mapped from a file.
        path: File to write.
        metric: How closeness is scored.
        config: Build settings.
        cancelled: Asked every 2,048 rows.

    Returns:
        False where it was cancelled; there is then no file.
    """
    _bound_threads(config.build_threads)
    dimension = vectors.shape[1]
    if metric is Metric.COSINE:
        precision = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(dimension, precision, config.hnsw_m, faiss.METRIC_INNER_PRODUCT)
    else:
        faiss_metric = faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexHNSWFlat(dimension, config.hnsw_m, faiss_metric)
    index.hnsw.efConstruction = config.ef_construction
    index.train(np.ascontiguousarray(vectors[:1]))
    for start in range(0, len(vectors), _ADD_ROWS):
        if cancelled():
            return False
        index.add(np.ascontiguousarray(vectors[start : start + _ADD_ROWS]))
    faiss.write_index(index, str(path))
    return True


def _bound_threads(count: int) -> None:
    # OpenMP's thread count belongs to the calling thread, so each thread that searches sets its own.
    if getattr(_thread, "count", None) != count:
        faiss.omp_set_num_threads(count)
        _thread.count = count
