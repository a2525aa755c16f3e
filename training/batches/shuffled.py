"""Items in an order of their own each epoch, in batches of equal size: what feeds of single items share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.streams import Position, Streams

__all__ = ["ShuffledItems"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledItems:
    """Numbers of items in random order; what is left over at an epoch's end waits for another."""

    count: int
    """Items of a pass."""
    per_step: int
    """Items per step and process."""
    called: str
    """What they are, in messages: `images`, `sentences`."""

    def __post_init__(self) -> None:
        """Checks that there is one batch."""
        if self.count < self.per_step:
            raise ValueError(
                f"--batch-size ({self.per_step}) must be <= the training {self.called} ({self.count}); "
                f"lower it or give more {self.called}"
            )

    def steps_per_epoch(self, world_size: int) -> int:
        """Returns the full batches of a pass, per process.

        Args:
            world_size: Processes that share the pass.

        Returns:
            At least 1.

        Raises:
            ValueError: There is not one batch for each process.
        """
        steps = self.count // (self.per_step * world_size)
        if steps < 1:
            raise ValueError(
                f"--batch-size ({self.per_step}) times --devices ({world_size}) must be <= the training "
                f"{self.called} ({self.count})"
            )
        return steps

    def places(self, position: Position, streams: Streams) -> NDArray[np.int64]:
        """Returns the items of one batch, a pure function of its position.

        Args:
            position: The step; each process has its share of a pass.
            streams: `order` is drawn from, per epoch.

        Returns:
            `[per_step]`: numbers in [0, count).
        """
        order = streams.rng("order", epoch=position.epoch).permutation(self.count)
        start = (position.step_in_epoch * position.world_size + position.rank) * self.per_step
        return order[start : start + self.per_step].astype(np.int64)
