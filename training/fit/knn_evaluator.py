"""k-NN accuracy on held-out images while a run goes on; labels are looked at, never learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle.preprocessing import ImagePreprocessing
from models.image.encoder import ImageEncoder
from models.image.served import ServedImageEncoder
from training.batches.image_batches import ImageSource
from training.evaluation.knn import NeighbourVote, predict_labels
from training.evaluation.torch_subjects import TorchPixelEncoder
from training.methods.base import Method

__all__ = ["NeighbourEvaluator"]

_IMAGES_PER_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourEvaluator:
    """Predicts held-out images' labels from their nearest training images, by the vectors that are served."""

    source: ImageSource
    """Where pixels are read."""
    encoder: ImageEncoder
    """The encoder that is trained."""
    preprocessing: ImagePreprocessing
    """As images are served."""
    labels: NDArray[np.int64]
    """`[all]`, by number in `source`."""
    bank: NDArray[np.int64]
    """Numbers of labelled training images; at most `max_bank` of them are taken, evenly."""
    queries: NDArray[np.int64]
    """Numbers of labelled held-out images; at most `max_queries` of them are taken, evenly."""
    max_bank: int = 2000
    max_queries: int = 1000

    def measure(self, method: Method) -> Mapping[str, float]:  # noqa: ARG002 - it trains this encoder
        """Measures weighted k-NN accuracy, k 20 or as many as there are.

        Args:
            method: The method around `encoder`.

        Returns:
            `validation_knn`, in [0, 1].
        """
        bank, queries = _evenly(self.bank, self.max_bank), _evenly(self.queries, self.max_queries)
        vote = NeighbourVote(k=min(20, len(bank)))
        predicted = predict_labels(self._embed(queries), self._embed(bank), self.labels[bank], vote)
        return {"validation_knn": float((predicted == self.labels[queries]).mean())}

    def _embed(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        pixels = TorchPixelEncoder(ServedImageEncoder(self.encoder), self.preprocessing)
        starts = range(0, len(indices), _IMAGES_PER_BATCH)
        batches = (self.source.read(indices[start : start + _IMAGES_PER_BATCH]) for start in starts)
        return np.concatenate([pixels.embed_rgb(list(batch)) for batch in batches])


def _evenly(indices: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    if len(indices) <= at_most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, at_most).astype(np.int64)]
