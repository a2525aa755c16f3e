"""FAISS, as this package uses it; nothing outside the package imports it."""

from __future__ import annotations

import threading
from typing import Any

import faiss as untyped_faiss

from serving.collections.types import Metric

__all__ = ["bound_threads", "faiss", "faiss_metric"]

# FAISS's stubs lack the search parameters, and give selectors the signature of C++ in place of Python's.
faiss: Any = untyped_faiss

_thread = threading.local()


def bound_threads(count: int) -> None:
    """Bounds the threads that FAISS starts for the calling thread.

    Args:
        count: At least 1.
    """
    # OpenMP's thread count belongs to the calling thread, so each thread that searches sets its own.
    if getattr(_thread, "count", None) != count:
        faiss.omp_set_num_threads(count)
        _thread.count = count


def faiss_metric(metric: Metric) -> int:
    """Returns FAISS's number of the metric by which candidates are found.

    Args:
        metric: How closeness is scored.

    Returns:
        Inner product for that metric alone: unit vectors have the same neighbours by squared distance, which every
        index can score.
    """
    return int(faiss.METRIC_INNER_PRODUCT if metric is Metric.INNER_PRODUCT else faiss.METRIC_L2)
