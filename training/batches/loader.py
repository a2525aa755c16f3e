"""Walks through the steps of a run, reading ahead in threads; may start at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from training.batches.feed import Feed
from training.streams import Position, Streams

__all__ = ["LoadedStep", "StepLoader"]


@dataclass(frozen=True, slots=True)
class LoadedStep:
    """What was read for one step."""

    position: Position
    """Which step."""
    loaded: Any
    """What the feed's `load` gave."""


class StepLoader:
    """Iterates over the steps that are left of a run.

    The trainer saves and restores `state_dict`, so that a resumed run goes on with the step after the last one done.

    Args:
        feed: The data.
        streams: The run's randomness.
        max_steps: Steps of the whole run.
        rank: Number of this process.
        world_size: Processes that train together.
        workers: Threads that read ahead, each a step.
    """

    def __init__(
        self, feed: Feed, streams: Streams, *, max_steps: int, rank: int = 0, world_size: int = 1, workers: int = 1
    ) -> None:
        self._feed = feed
        self._streams = streams
        self._max_steps = max_steps
        self._rank = rank
        self._world_size = world_size
        self._workers = workers
        self._done = 0
        self._steps_per_epoch = feed.steps_per_epoch(world_size)

    def __len__(self) -> int:
        """Steps of the whole run, done ones included."""
        return self._max_steps

    def __iter__(self) -> Iterator[LoadedStep]:
        """Yields the steps from the first undone one to the last."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="diptych-batches") as threads:
            ahead: deque[Future[LoadedStep]] = deque()
            try:
                for step in range(self._done, self._max_steps):
                    ahead.append(threads.submit(self.load, step))
                    if len(ahead) > self._workers:
                        yield self._finished(ahead.popleft())
                while ahead:
                    yield self._finished(ahead.popleft())
            finally:
                for future in ahead:
                    future.cancel()

    def position(self, step: int) -> Position:
        """Returns where a step stands.

        Args:
            step: Steps done before it.

        Returns:
            Its epoch and its place in it, for this process.
        """
        epoch, step_in_epoch = divmod(step, self._steps_per_epoch)
        return Position(step, epoch, step_in_epoch, self._rank, self._world_size)

    def load(self, step: int) -> LoadedStep:
        """Reads one step, now.

        Args:
            step: Steps done before it.

        Returns:
            What the feed read.
        """
        position = self.position(step)
        return LoadedStep(position, self._feed.load(position, self._streams))

    def state_dict(self) -> dict[str, int]:
        """Returns how many steps were handed out."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the steps of a saved state.

        Args:
            state: What `state_dict` gave.
        """
        self._done = state["done"]

    def _finished(self, future: Future[LoadedStep]) -> LoadedStep:
        step = future.result()
        self._done = step.position.step + 1
        return step
