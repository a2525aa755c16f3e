"""Single sentences in random order: what methods train on that ask nothing of a sentence's neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.batches.shuffled import ShuffledItems
from training.batches.text_batches import move_batch, read_batch
from training.batches.text_corpus import TextCorpus
from training.methods.base import TextBatch
from training.streams import Position, Streams

__all__ = ["SentenceFeed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceFeed:
    """A corpus as sentences in an order of their own each epoch; what is left over at its end waits for another."""

    corpus: TextCorpus
    """The training split."""
    sentences_per_step: int = 64
    """Sentences per step and process."""

    def __post_init__(self) -> None:
        """Checks that there is one batch."""
        _ = self._shuffled  # refuses fewer items than a batch

    @property
    def item_count(self) -> int:
        """Sentences of the training split."""
        return len(self.corpus)

    @property
    def batch_size(self) -> int:
        """Sentences per step and process."""
        return self.sentences_per_step

    def steps_per_epoch(self, world_size: int) -> int:
        """Returns the full batches of a pass, per process.

        Args:
            world_size: Processes that share the pass.

        Returns:
            At least 1.

        Raises:
            ValueError: There is not one batch for each process.
        """
        return self._shuffled.steps_per_epoch(world_size)

    def load(self, position: Position, streams: Streams) -> TextBatch:
        """Reads one batch, on the CPU.

        Args:
            position: The step.
            streams: `order` is drawn from, per epoch.

        Returns:
            The batch.
        """
        return read_batch(self.corpus, self.rows(position, streams))

    def finish(self, loaded: TextBatch, position: Position, streams: Streams, device: torch.device) -> TextBatch:  # noqa: ARG002 - texts have no views to draw
        """Moves a batch to the training device.

        Args:
            loaded: What `load` gave.
            position: The step.
            streams: The run's randomness.
            device: The training device.

        Returns:
            The batch there.
        """
        return move_batch(loaded, device)

    def rows(self, position: Position, streams: Streams) -> NDArray[np.int64]:
        """Returns the sentences of one batch.

        Args:
            position: The step.
            streams: As in `load`.

        Returns:
            `[sentences_per_step]`: numbers of sentences, in the epoch's order.
        """
        return self._shuffled.places(position, streams)

    @property
    def _shuffled(self) -> ShuffledItems:
        return ShuffledItems(count=len(self.corpus), per_step=self.sentences_per_step, called="sentences")
