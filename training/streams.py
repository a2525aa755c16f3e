"""Randomness without memory: every draw is a function of the seed, what it is for, and where in the training it is.

No generator's state is ever stored, and none needs to be: a run that is taken up in the middle draws what it would have
drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Position", "Streams"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a step stands."""

    step: int
    """Steps done before this one, from 0."""
    epoch: int
    """Whole passes over the data done before this one, from 0."""
    step_in_epoch: int
    """Steps of this pass done before this one."""
    rank: int = 0
    """Number of this process, in [0, world_size)."""
    world_size: int = 1
    """Processes that train together."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Named sources of randomness.

    Two names, epochs, steps or ranks never share their draws; the same ones always do.
    """

    seed: int
    """The run's seed."""

    def number(self, name: str, *, epoch: int = 0, step: int = 0, rank: int = 0) -> int:
        """Derives a seed.

        Args:
            name: What it is for, such as `order`.
            epoch: Pass over the data.
            step: Step of the training.
            rank: Process.

        Returns:
            A number in [0, 2 ** 63), the same on every machine.
        """
        key = f"{self.seed}/{name}/{epoch}/{step}/{rank}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1

    def rng(self, name: str, *, epoch: int = 0, step: int = 0, rank: int = 0) -> np.random.Generator:
        """Returns a numpy generator at the start of its stream.

        Args:
            name: As in `number`.
            epoch: As in `number`.
            step: As in `number`.
            rank: As in `number`.

        Returns:
            A fresh generator.
        """
        return np.random.default_rng(self.number(name, epoch=epoch, step=step, rank=rank))

    def generator(self, name: str, position: Position, device: torch.device) -> torch.Generator:
        """Returns a torch generator of one step.

        Args:
            name: As in `number`.
            position: The step.
            device: Where it draws.

        Returns:
            A fresh generator.
        """
        generator = torch.Generator(device=device)
        return generator.manual_seed(self._of_step(name, position))

    @contextlib.contextmanager
    def default_generators(self, name: str, position: Position, device: torch.device) -> Iterator[None]:
        """Lets torch's default generators, which dropout reads, draw from a stream; gives them back as they were.

        Args:
            name: As in `number`.
            position: The step.
            device: Device whose generator is meant, beside the CPU's.

        Yields:
            Nothing.
        """
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices, enabled=True):
            torch.manual_seed(self._of_step(name, position))
            yield

    def _of_step(self, name: str, position: Position) -> int:
        return self.number(name, epoch=position.epoch, step=position.step, rank=position.rank)
