"""What happens around the steps of a run: measuring, saving and telling."""
# ruff: noqa: ARG002 - Lightning hands every hook all it has

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from training.fit.alignment import batch_alignment
from training.fit.collapse import CollapseError, DivergenceError, ProjectionMonitor
from training.fit.evaluator import Evaluator
from training.fit.interruption import InterruptWatch
from training.fit.metrics_log import MetricsLog
from training.fit.module import MethodModule, ReadyStep
from training.fit.rehearsal import describe_duration, step_duration_s
from training.fit.reporting import Reporter
from training.run_folder import CHECKPOINT_FILE

__all__ = ["Measuring", "Saving", "Telling"]

_MEASUREMENTS = 50
"""Times that projections are judged in a run."""
_EVALUATIONS = 10
"""Times that held-out data are measured in a run, where the configuration gives no interval."""


class Measuring(pl.Callback):
    """Logs each step's figures, judges the projections, and measures held-out data.

    Args:
        folder: The run's folder.
        module: The method in its trainer.
        evaluator: Measures held-out data; None: nothing is held out.
    """

    def __init__(self, folder: Path, module: MethodModule, evaluator: Evaluator | None) -> None:
        loop = module.config.loop
        self._folder = folder
        self._loop = loop
        self._max_steps = module.max_steps
        self._evaluator = evaluator
        self._judge_every = _multiple_of(loop.log_every_steps, module.max_steps // _MEASUREMENTS)
        self._evaluate_every = loop.evaluate_every_steps or max(1, module.max_steps // _EVALUATIONS)
        self._monitor = ProjectionMonitor(threshold=loop.collapse_threshold, max_steps=module.max_steps)
        self._log: MetricsLog | None = None

    @property
    def state_key(self) -> str:
        """Name under which the checkpoint keeps its state."""
        return "measuring"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the log where the run stands."""
        if trainer.is_global_zero:
            self._log = MetricsLog(self._folder, first_step=trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ReadyStep,
        batch_idx: int,
    ) -> None:
        """Logs, judges and measures where the step is due for it."""
        module = _method_module(pl_module)
        step = batch.position.step + 1
        problem = None
        if trainer.is_global_zero:
            try:
                self._note(module, batch, step)
            except (CollapseError, DivergenceError) as error:
                problem = error
        if self._is_logged(step):
            # All processes stop together, or the others would wait for ever.
            problem = trainer.strategy.broadcast(problem)
        if problem is not None:
            raise problem

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the monitor's state, so that a resumed run measures the same."""
        return self._monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the monitor's state."""
        self._monitor.load_state_dict(state_dict)

    def _note(self, module: MethodModule, batch: ReadyStep, step: int) -> None:
        output = module.latest
        if self._judge_every - 1 - (step - 1) % self._judge_every < self._monitor.batches(len(output.projections)):
            self._monitor.add(output.projections)
        if not self._is_logged(step):
            return
        values = _figures(module, step)
        judged = step % self._judge_every == 0 or step == self._max_steps
        if judged:
            values |= self._monitor.measure()
            values |= batch_alignment(batch.batch, output.projections)
        if step % self._evaluate_every == 0 or step == self._max_steps:
            values |= self._evaluated(module)
        if self._log is not None:
            self._log.write(step, batch.position.epoch, values)
        if judged:
            self._monitor.judge(values, step)

    def _is_logged(self, step: int) -> bool:
        due = (self._loop.log_every_steps, self._evaluate_every if self._evaluator is not None else self._max_steps)
        return step == self._max_steps or any(step % interval == 0 for interval in due)

    def _evaluated(self, module: MethodModule) -> Mapping[str, float]:
        if self._evaluator is None:
            return {}
        with _evaluation_mode(module.method), torch.no_grad():
            return self._evaluator.measure(module.method)


class Saving(pl.Callback):
    """Writes `last.ckpt` at intervals, at the end and at an interruption, which then ends the run.

    Args:
        folder: The run's folder.
        every_steps: Steps between two writes.
        watch: Knows whether the user wants to stop.
    """

    def __init__(self, folder: Path, *, every_steps: int, watch: InterruptWatch) -> None:
        self._path = folder / CHECKPOINT_FILE
        self._every_steps = every_steps
        self._watch = watch
        self.interrupted_at: int | None = None
        """Steps done when the user stopped the run; None: nobody did."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signals back from Lightning, which has just taken SIGTERM."""
        self._watch.install()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ReadyStep,
        batch_idx: int,
    ) -> None:
        """Saves where the step is due for it."""
        module = _method_module(pl_module)
        step = batch.position.step + 1
        stopping = trainer.strategy.reduce_boolean_decision(self._watch.requested, all=False)
        if not (stopping or step % self._every_steps == 0 or step == module.max_steps):
            return
        if bool(torch.isfinite(module.latest.loss)):
            trainer.save_checkpoint(self._path, weights_only=False)
        if stopping and step < module.max_steps:
            self.interrupted_at = step
            trainer.should_stop = True


class Telling(pl.Callback):
    """Estimates the time before the first step, and moves the bar.

    Args:
        reporter: Who is told.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rehearses a step, says how long the rest takes, and draws the bar."""
        module = _method_module(pl_module)
        done, left = trainer.global_step, module.max_steps - trainer.global_step
        loaded = module.steps.load(done)
        step = module.transfer_batch_to_device(loaded, module.device, 0)
        estimate = describe_duration(left * step_duration_s(module, step))
        if trainer.is_global_zero:
            resumed = f" (step {done} of {module.max_steps} done before)" if done else ""
            self._reporter.note(f"training: {left} steps on {module.device.type}, about {estimate}{resumed}")
            self._reporter.start("training", module.max_steps, done)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ReadyStep,
        batch_idx: int,
    ) -> None:
        """Moves the bar."""
        module = _method_module(pl_module)
        if not trainer.is_global_zero:
            return
        shown = (batch.position.step + 1) % module.config.loop.log_every_steps == 0
        self._reporter.advance(**({"loss": float(module.latest.loss)} if shown else {}))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the bar away."""
        self._reporter.stop()


def _figures(module: MethodModule, step: int) -> dict[str, float]:
    """Returns what the step gave; raises where the loss is no number."""
    output = module.latest
    if not bool(torch.isfinite(output.loss)):
        raise DivergenceError(
            f"diverged: the loss of step {step} is {float(output.loss)}; lower --learning-rate, set --gradient-clip, "
            "or take --precision fp32"
        )
    rate = float(module.trainer.optimizers[0].param_groups[0]["lr"])
    own = {name: float(value) for name, value in output.metrics.items()}
    return {"loss": float(output.loss), "learning_rate": rate, **own}


@contextmanager
def _evaluation_mode(method: nn.Module) -> Iterator[None]:
    """Puts every part into evaluation mode, and then back into the mode it was in."""
    before = [(part, part.training) for part in method.modules()]
    method.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _method_module(module: pl.LightningModule) -> MethodModule:
    if not isinstance(module, MethodModule):
        raise TypeError(f"expected a MethodModule, got {type(module).__name__}")
    return module


def _multiple_of(unit: int, wanted: int) -> int:
    return unit * max(1, round(wanted / unit))
