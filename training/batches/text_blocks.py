"""Blocks of contiguous sentences: what Quick-Thoughts trains on. Blocks are shuffled, sentences never."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.batches.text_batches import move_batch, read_batch
from training.batches.text_corpus import TextCorpus
from training.methods.base import TextBatch
from training.streams import Position, Streams

__all__ = ["TextFeed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFeed:
    """A corpus as blocks of contiguous sentences.

    Each epoch lays the documents end to end in an order of its own, starts at an offset of its own, so that blocks do
    not end where they ended before, cuts blocks, and shuffles them. Every epoch has the same number of blocks; up
    to two blocks' worth of sentences is left over, others each time.
    """

    corpus: TextCorpus
    """The training split."""
    block_size: int = 400
    """Sentences per step and process, contiguous ones."""
    shuffle_documents: bool = True
    """Whether each epoch has its own order of documents."""

    def __post_init__(self) -> None:
        """Checks that there is one block."""
        if len(self.corpus) < self.block_size:
            raise ValueError(
                f"--batch-size ({self.block_size}) must be <= the training sentences ({len(self.corpus)}); "
                f"lower it or give more text"
            )

    @property
    def item_count(self) -> int:
        """Sentences of the training split."""
        return len(self.corpus)

    @property
    def batch_size(self) -> int:
        """Sentences per step and process."""
        return self.block_size

    def steps_per_epoch(self, world_size: int) -> int:
        """Returns the blocks of a pass, per process.

        Args:
            world_size: Processes that share the pass.

        Returns:
            At least 1.

        Raises:
            ValueError: There are fewer blocks than processes.
        """
        steps = self._block_count // world_size
        if steps < 1:
            raise ValueError(
                f"--devices ({world_size}) must be <= the blocks of a pass ({self._block_count}); lower --batch-size"
            )
        return steps

    def load(self, position: Position, streams: Streams) -> TextBatch:
        """Lays out one block, on the CPU.

        Args:
            position: The step.
            streams: `documents`, `offset` and `blocks` are drawn from, per epoch.

        Returns:
            The block.
        """
        return read_batch(self.corpus, self.rows(position, streams))

    def finish(self, loaded: TextBatch, position: Position, streams: Streams, device: torch.device) -> TextBatch:  # noqa: ARG002 - texts have no views to draw
        """Moves a block to the training device.

        Args:
            loaded: What `load` gave.
            position: The step.
            streams: The run's randomness.
            device: The training device.

        Returns:
            The block there.
        """
        return move_batch(loaded, device)

    def rows(self, position: Position, streams: Streams) -> NDArray[np.int64]:
        """Returns the sentences of one block.

        Args:
            position: The step.
            streams: As in `load`.

        Returns:
            `[block_size]`: numbers of sentences, in the order of their documents.
        """
        epoch = position.epoch
        slack = len(self.corpus) - self._block_count * self.block_size
        offset = int(streams.rng("offset", epoch=epoch).integers(slack + 1))
        blocks = streams.rng("blocks", epoch=epoch).permutation(self._block_count)
        block = int(blocks[position.step_in_epoch * position.world_size + position.rank])
        start = offset + block * self.block_size
        return self._slice(start, start + self.block_size, streams, epoch)

    @property
    def _block_count(self) -> int:
        # One block less than would fit, where there are several, leaves the offset room for a whole block.
        return max(1, (len(self.corpus) - self.block_size + 1) // self.block_size)

    def _slice(self, start: int, stop: int, streams: Streams, epoch: int) -> NDArray[np.int64]:
        """Cuts a range out of the documents laid end to end."""
        if not self.shuffle_documents:
            return np.arange(start, stop, dtype=np.int64)
        firsts = self.corpus.document_starts
        order = streams.rng("documents", epoch=epoch).permutation(len(firsts) - 1)
        ends = np.cumsum(firsts[order + 1] - firsts[order])
        chosen = slice(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop - 1, "right")) + 1)
        rows = [np.arange(firsts[number], firsts[number + 1]) for number in order[chosen]]
        laid = np.concatenate(rows)
        skipped = start - int(ends[chosen.start] - len(rows[0]))
        return laid[skipped : skipped + stop - start].astype(np.int64)
