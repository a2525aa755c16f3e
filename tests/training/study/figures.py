"""Figures of a method, as a study's cell has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.evaluation.evaluated import Evaluated
from training.evaluation.measurement import Measurement, PerQuery
from training.evaluation.results import Result

__all__ = ["knn_figures"]


def knn_figures(name: str, *, right: list[float]) -> Evaluated:
    """k-NN accuracy, a query each."""
    values: dict[str, Any] = {"subject_fingerprint": name, "data": "d", "data_fingerprint": "f", "split": "validation"}
    settings: dict[str, Any] = {"k": 20, "vote": "weighted, T 0.07"}
    row = Result(
        subject=name, task="knn", metric="accuracy", layer="embedding", parameters=settings, n_gallery=9,
        n_query=len(right), value=float(np.mean(right)), **values,
    )  # fmt: skip
    measurement = Measurement(
        task="knn", metric="accuracy", outcome=PerQuery(np.array(right)), parameters=settings, n_gallery=9, n_query=4
    )
    return Evaluated([row], [measurement])
