"""Trains in generations: a teacher on the labelled images, then students, each the next one's teacher; a run each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from training.config import LoopConfig
from training.fit.fit import FitResult, is_first_process
from training.fit.interruption import Interrupted
from training.fit.method_settings import method_config
from training.fit.reporting import Reporter
from training.methods.table import find_method
from training.run_config import ImageRunConfig
from training.run_folder import RunFolder

__all__ = ["fit_generations", "plan_generations"]


def plan_generations(config: ImageRunConfig, *, packed: bool) -> list[ImageRunConfig]:
    """Lists the runs of all generations, which share the steps that were asked for.

    Args:
        config: The run that was asked for.
        packed: Whether its data are a pack; otherwise the first generation packs them for all.

    Returns:
        In `RUN-generation-0` the teacher's, who has none itself and so learns from labels alone; then the students',
        the last of them in `RUN`.

    Raises:
        ValueError: The method's settings are refused, or there are several devices.
    """
    if config.fit.device.devices > 1:
        raise ValueError(
            f"--devices ({config.fit.device.devices}): --method {config.method} trains its generations on one device; "
            "train each by itself: the teacher with --set generations=0, then students with --teacher RUN"
        )
    count = method_config(find_method(config.method), config.settings).generations
    folders = [config.out.with_name(f"{config.out.name}-generation-{number}") for number in range(count)]
    folders.append(config.out)
    data = config.data if packed else RunFolder(folders[0]).pack
    first = replace(config, out=folders[0], fit=replace(config.fit, loop=_shared(config.fit.loop, len(folders))))
    students = [replace(first, out=folder, data=data, teacher=before) for before, folder in pairwise(folders)]
    return [first, *students]


def fit_generations(
    runs: list[ImageRunConfig],
    fit: Callable[[ImageRunConfig, bool], FitResult],
    *,
    reporter: Reporter,
    resume: bool,
    overwrite: bool,
) -> FitResult:
    """Trains one generation after the other; with `resume`, those that are finished are not trained again.

    Args:
        runs: As `plan_generations` lists them.
        fit: Trains one, or resumes it where the second argument is True.
        reporter: Is told which generation begins.
        resume: Whether to go on where an earlier sitting was stopped.
        overwrite: Whether runs that are there may be replaced.

    Returns:
        What came of the last student.

    Raises:
        ValueError: Runs are there and neither is asked for; there is nothing to resume.
        Interrupted: The user stopped it; it can be resumed.
    """
    if is_first_process() and not resume:
        # All of them now: a generation's training is long, and no older one's student may be left beside it.
        for run in runs:
            RunFolder(run.out).begin(source=run.data, overwrite=overwrite)
    *earlier, last = runs
    for number, run in enumerate(earlier):
        folder = RunFolder(run.out)
        if resume and folder.is_finished:
            continue
        reporter.note(f"generation {number} of {len(earlier)}, in {run.out}")
        done = fit(run, resume and (folder.has_begun or number == 0))
        if done.stop_requested:
            raise Interrupted(f"stopped after generation {number} of {len(earlier)}; go on with --resume")
    if earlier:
        reporter.note(f"generation {len(earlier)} of {len(earlier)}, in {last.out}")
    return fit(last, resume and (RunFolder(last.out).has_begun or not earlier))


def _shared(loop: LoopConfig, runs: int) -> LoopConfig:
    if loop.epochs is not None:
        return replace(loop, epochs=max(1, loop.epochs // runs))
    return replace(loop, max_steps=max(1, loop.steps(1) // runs))
