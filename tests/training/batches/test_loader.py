from __future__ import annotations

import threading

import pytest
import torch

from training.batches.loader import StepLoader
from training.streams import Position, Streams


class Recording:
    """3 steps a pass; notes what is read."""

    item_count = 9
    batch_size = 3

    def __init__(self, failing_step: int | None = None) -> None:
        self.read: list[int] = []
        self.lock = threading.Lock()
        self.failing_step = failing_step

    def steps_per_epoch(self, world_size: int) -> int:
        return 3

    def load(self, position: Position, streams: Streams) -> str:
        with self.lock:
            self.read.append(position.step)
        if position.step == self.failing_step:
            raise OSError("shard gone")
        return f"{position.epoch}.{position.step_in_epoch}"

    def finish(self, loaded: str, position: Position, streams: Streams, device: torch.device) -> str:
        return loaded


def loader(feed: Recording, workers: int = 2) -> StepLoader:
    return StepLoader(feed, Streams(0), max_steps=7, workers=workers, rank=1, world_size=2)


@pytest.mark.parametrize("workers", [1, 4, 20])
def test_steps_come_in_order_with_their_places(workers: int) -> None:
    steps = list(loader(Recording(), workers))

    assert [step.loaded for step in steps] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2", "2.0"]
    assert steps[4].position == Position(4, 1, 1, 1, 2)


def test_it_reads_ahead_but_not_without_bound() -> None:
    feed = Recording()
    steps = iter(loader(feed, workers=2))

    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator

    assert max(feed.read) <= 2


def test_a_restored_loader_goes_on_after_the_last_step_handed_out() -> None:
    first = loader(Recording())
    steps = iter(first)
    for _ in range(4):
        next(steps)
    second = loader(Recording())

    second.load_state_dict(first.state_dict())

    assert [step.position.step for step in second] == [4, 5, 6]
    assert len(second) == 7


def test_a_failure_to_read_reaches_the_trainer_at_its_step() -> None:
    steps = iter(loader(Recording(failing_step=2)))

    assert [next(steps).position.step, next(steps).position.step] == [0, 1]
    with pytest.raises(OSError, match="shard gone"):
        next(steps)
