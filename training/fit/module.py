"""A method as Lightning sees it: the one place where its hooks are tied to the trainer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from training.batches.feed import Feed
from training.batches.loader import LoadedStep, StepLoader
from training.config import FitConfig
from training.fit.optimiser import build_optimiser, set_rate
from training.fit.schedule import rate_factor
from training.methods.base import LossOutput, Method, Progress
from training.streams import Position, Streams

__all__ = ["MethodModule", "ReadyStep"]


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step whose batch is on the training device."""

    position: Position
    """Which step."""
    batch: Any
    """What the method's loss takes."""


class MethodModule(pl.LightningModule):
    """Runs a method in Lightning's loop. The whole run is one of Lightning's epochs; passes over the data are ours.

    Args:
        method: What is trained.
        feed: What it is trained on.
        config: The loop's part of the configuration.
        max_steps: Steps of the whole run.
    """

    def __init__(self, method: Method, feed: Feed, config: FitConfig, *, max_steps: int) -> None:
        super().__init__()
        self.method = method
        self.feed = feed
        self.config = config
        self.max_steps = max_steps
        self.streams = Streams(config.loop.seed)
        self._output: LossOutput | None = None
        self._steps_per_epoch = 0
        self._steps: StepLoader | None = None

    @property
    def latest(self) -> LossOutput:
        """What the latest step gave."""
        if self._output is None:
            raise RuntimeError("there is no output before the first step")
        return self._output

    @property
    def steps(self) -> StepLoader:
        """The run's steps, once the trainer has asked for them."""
        if self._steps is None:
            raise RuntimeError("the steps are known once the trainer has asked for them")
        return self._steps

    def train_dataloader(self) -> StepLoader:
        """Returns the steps; Lightning asks once the processes are known, and restores where they go on."""
        self._steps_per_epoch = self.feed.steps_per_epoch(self.trainer.world_size)
        self._steps = StepLoader(
            self.feed,
            self.streams,
            max_steps=self.max_steps,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            workers=self.config.device.workers,
        )
        return self._steps

    def configure_optimizers(self) -> Optimizer:
        """Returns the optimiser of the method's trainable parameters."""
        return build_optimiser(self.method, self.config.optimiser)

    def transfer_batch_to_device(self, batch: LoadedStep, device: torch.device, dataloader_idx: int) -> ReadyStep:  # noqa: ARG002 - Lightning's signature
        """Makes the batch on the device; here, and not in the step, because autocast does not reach it."""
        return ReadyStep(batch.position, self.feed.finish(batch.loaded, batch.position, self.streams, device))

    def on_train_batch_start(self, batch: ReadyStep, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Sets the learning rate of the step."""
        set_rate(self._optimiser, rate_factor(self.config.optimiser, batch.position.step, self.max_steps))

    def training_step(self, batch: ReadyStep, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """Computes the loss, with the step's own randomness for dropout."""
        output = self.compute(self.method, batch)
        self._output = replace(output, loss=output.loss.detach())
        return output.loss

    def compute(self, method: Method, step: ReadyStep) -> LossOutput:
        """Computes one step's loss.

        Args:
            method: The method, or a copy of it.
            step: The batch and where it stands.

        Returns:
            What the method gave.
        """
        with self.streams.default_generators("forward", step.position, self.device):
            output = method.loss(step.batch, self.progress(step.position))
        if output.loss.requires_grad:
            return output
        # A block without one pair of neighbours teaches nothing; the step is taken with a gradient of 0.
        nothing = sum(
            (parameter.sum() for parameter in method.parameters() if parameter.requires_grad), torch.zeros(())
        )
        return replace(output, loss=output.loss + 0 * nothing)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002 - Lightning's signature
        """Lets the method see its gradients, before they are clipped."""
        self.method.after_backward(self.progress(self.position))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Takes the step, then lets the method follow it, so that every later hook sees both."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        position = self.position
        progress = self.progress(position)
        with torch.no_grad(), self.streams.default_generators("after", position, self.device):
            self.method.after_step(progress)
            if position.step_in_epoch == self._steps_per_epoch - 1:
                self.method.at_epoch_end(progress)

    def progress(self, position: Position) -> Progress:
        """Returns a position as methods see it."""
        return Progress(
            step=position.step,
            max_steps=self.max_steps,
            epoch=position.epoch,
            step_in_epoch=position.step_in_epoch,
            steps_per_epoch=self._steps_per_epoch,
        )

    @property
    def position(self) -> Position:
        """Where the step that is under way stands."""
        # Inside a step Lightning's count of batches is one ahead of its count of steps.
        step = self.trainer.fit_loop.total_batch_idx
        epoch, step_in_epoch = divmod(step, self._steps_per_epoch)
        return Position(step, epoch, step_in_epoch, self.trainer.global_rank, self.trainer.world_size)

    @property
    def _optimiser(self) -> Optimizer:
        return self.trainer.optimizers[0]
