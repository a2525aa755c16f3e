"""What the fit asks of data: how many steps a pass has, and the batch of a given step."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from training.streams import Position, Streams

__all__ = ["Feed"]


class Feed(Protocol):
    """Data in batches, each a pure function of its position: no state, so that any step may be asked for first."""

    @property
    def item_count(self) -> int:
        """Items of the training split."""
        ...

    @property
    def batch_size(self) -> int:
        """Items per step and process."""
        ...

    def steps_per_epoch(self, world_size: int) -> int:
        """Returns the steps of one pass over the data.

        Args:
            world_size: Processes that share the pass.

        Returns:
            At least 1.
        """
        ...

    def load(self, position: Position, streams: Streams) -> Any:
        """Reads what a step needs into memory; may run in another thread, ahead of the step.

        Args:
            position: The step.
            streams: The run's randomness.

        Returns:
            Something of the feed's own for `finish`.
        """
        ...

    def finish(self, loaded: Any, position: Position, streams: Streams, device: torch.device) -> Any:
        """Makes the method's batch on the training device.

        Args:
            loaded: What `load` gave.
            position: The step.
            streams: The run's randomness.
            device: The training device.

        Returns:
            An `ImageBatch` or a `TextBatch`.
        """
        ...
