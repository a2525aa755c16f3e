"""Runs any method on any data: the one adapter to PyTorch Lightning."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from safetensors.torch import save
from torch import nn

from training.batches.feed import Feed
from training.config import SCHEMA_VERSION, FitConfig
from training.config_json import encode
from training.fit.callbacks import Measuring, Saving, Telling
from training.fit.collapse import CollapseError, DivergenceError
from training.fit.curves import draw_curves
from training.fit.environment import describe_environment, thread_count
from training.fit.evaluator import Evaluator
from training.fit.interruption import Interrupted, InterruptWatch
from training.fit.lightning import build_trainer, compute_settings, quiet
from training.fit.metrics_log import read_metrics
from training.fit.module import MethodModule
from training.fit.reporting import Reporter, SilentReporter
from training.fit.schedule import check_schedule
from training.methods.base import Method
from training.publish import publish_file
from training.run_folder import RunFolder

__all__ = ["FitResult", "Sitting", "fit", "is_first_process", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """What came of a run."""

    folder: RunFolder
    """Where it lies."""
    steps: int
    """Steps of the optimiser, earlier sittings included."""
    seconds: float
    """Of this sitting."""
    metrics: Mapping[str, float]
    """Every figure's latest value."""
    stop_requested: bool = False
    """Whether the user asked it to stop, too late to change it: what would follow is not wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sitting:
    """What surrounds a training, from its start or resumption to its end."""

    run: RunFolder
    """The folder, begun."""
    record: Mapping[str, Any]
    """What `config.json` shall say; steps and environment are added."""
    kept: nn.Module
    """What `encoder.safetensors` shall hold."""
    evaluator: Evaluator | None
    """Measures held-out data."""
    reporter: Reporter
    """Is told how it goes."""
    resume: bool
    """Whether an unfinished run goes on."""


def fit(
    method: Method,
    feed: Feed,
    config: FitConfig,
    folder: Path,
    *,
    evaluator: Evaluator | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> FitResult:
    """Trains a method of your own, on data of your own.

    The method is a `training.methods.base.Method` around any encoder; the data come as a `Feed`, of which `TextFeed`
    and `ImageFeed` are two. A pixel-reading encoder on an array of images:

        method = SimCLR(my_encoder, SimCLRConfig(temperature=0.5), context=context)
        feed = ImageFeed(source=my_images, indices=np.arange(50_000), views=method.views(), preprocessing=pixels)
        result = fit(method, feed, FitConfig(loop=LoopConfig(max_steps=1000)), Path("runs/mine"))

    Args:
        method: What is trained, in place.
        feed: The training data.
        config: Optimiser, loop and device. The seed rules order, views and dropout; the weights you made yourself.
        folder: The run's folder; `encoder.safetensors` in it will hold `method.encoder`.
        evaluator: Measures held-out data at intervals.
        reporter: Is told how the run goes; silent by default.
        resume: Whether the unfinished run in the folder is to go on; the method must be built as it was then.
        overwrite: Whether a run that is there may be replaced.

    Returns:
        Where the run lies, and its latest figures.

    Raises:
        ValueError: The configuration, the data and the folder do not go together; the run collapsed or diverged.
        Interrupted: The user stopped the run; it can be resumed.
    """
    run = RunFolder(Path(folder))
    if is_first_process():
        run.begin(resume=resume, overwrite=overwrite)
    record = {
        "schema_version": SCHEMA_VERSION,
        "modality": None,
        "method": f"{type(method).__module__}.{type(method).__qualname__}",
        "run": {"fit": encode(config)},
        "data": {"fingerprint": None, "items": feed.item_count},
    }
    sitting = Sitting(
        run=run,
        record=record,
        kept=method.encoder,
        evaluator=evaluator,
        reporter=reporter or SilentReporter(),
        resume=resume,
    )
    return train(method, feed, config, sitting)


def train(method: Method, feed: Feed, config: FitConfig, sitting: Sitting) -> FitResult:
    """Trains in a folder that has been begun; what `fit`, `fit_text` and `fit_image` share.

    Args:
        method: As in `fit`.
        feed: As in `fit`.
        config: As in `fit`.
        sitting: The run's folder, and what surrounds the training.

    Returns:
        As `fit`.

    Raises:
        Interrupted: The user stopped the run.
    """
    run = sitting.run
    max_steps, threads = _agree(feed, config, sitting)
    started = time.perf_counter()
    module = MethodModule(method.train(), feed, config, max_steps=max_steps)
    with compute_settings(config.device, threads), InterruptWatch() as watch:
        interrupted_at = _run_trainer(module, sitting, watch)
    if is_first_process():
        draw_curves(read_metrics(run.metrics), run.curves, title=run.path.name)
    if interrupted_at is not None:
        stopped = f"stopped after step {interrupted_at} of {max_steps}; go on with --resume"
        if is_first_process():
            sitting.reporter.note(stopped)
        raise Interrupted(stopped)
    if is_first_process():
        for name, head in method.kept_heads().items():
            _publish_tensors(run.head(name), head)
        # Last, because where the encoder is, the run is finished.
        _publish_tensors(run.encoder, sitting.kept)
    latest = {name: value for row in read_metrics(run.metrics) for name, value in row.items()}
    return FitResult(
        folder=run,
        steps=max_steps,
        seconds=time.perf_counter() - started,
        metrics=latest,
        stop_requested=watch.requested,
    )


def is_first_process() -> bool:
    """Returns whether this process is the one that writes; the trainer starts the others from it."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def _agree(feed: Feed, config: FitConfig, sitting: Sitting) -> tuple[int, int]:
    """Settles the steps and threads of the run, and writes its configuration or compares it; returns both."""
    steps_per_epoch = feed.steps_per_epoch(config.device.devices)
    max_steps = config.loop.steps(steps_per_epoch)
    check_schedule(config.optimiser, max_steps)
    begun = sitting.resume or not is_first_process()
    threads = thread_count(config.device, sitting.run.read_config()["environment"]["threads"] if begun else None)
    if is_first_process():
        lengths = {"max_steps": max_steps, "steps_per_epoch": steps_per_epoch}
        record = {**sitting.record, **lengths, "environment": describe_environment(threads)}
        sitting.run.write_config(record, resume=sitting.resume)
    return max_steps, threads


def _run_trainer(module: MethodModule, sitting: Sitting, watch: InterruptWatch) -> int | None:
    """Runs the loop; returns the steps done where the user stopped it."""
    run = sitting.run
    saving = Saving(run.path, every_steps=module.config.loop.checkpoint_every_steps, watch=watch)
    callbacks = [Telling(sitting.reporter), Measuring(run.path, module, sitting.evaluator), saving]
    checkpoint = run.checkpoint if run.checkpoint.is_file() else None
    with quiet():
        trainer = build_trainer(module.config, max_steps=module.max_steps, callbacks=[*callbacks])
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as error:
            # Lightning turns a second Ctrl-C into an exit of its own.
            raise KeyboardInterrupt from error
        except (CollapseError, DivergenceError):
            if is_first_process():
                raise
            # One sentence on the screen is enough; the first process says it.
            raise SystemExit(1) from None
    return saving.interrupted_at


def _publish_tensors(path: Path, module: nn.Module) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    publish_file(path, lambda temporary: temporary.write_bytes(save(tensors)))
