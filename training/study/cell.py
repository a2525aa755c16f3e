"""One cell of a study: one method, one seed, trained to the budget and measured, in a process of its own.

Run as `python -m training.study.cell SPECIFICATION RESULT`; the process's own peak is the cell's memory.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.config import ImageEncoderConfig
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.config_json import decode, encode
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.evaluation.evaluate import evaluate_subject, open_data
from training.evaluation.evaluated import encode_evaluated, renamed
from training.evaluation.open_subject import open_subject
from training.evaluation.suite import EvaluationConfig
from training.evaluation.threads import limit_threads
from training.fit.collapse import CollapseError, DivergenceError
from training.fit.fit_image import fit_image
from training.fit.image_training import build_image_training
from training.methods.table import MethodEntry
from training.publish import publish_json
from training.run_config import ImageRunConfig, LabelConfig
from training.study.config import StudyConfig
from training.study.flops import step_flops

__all__ = ["CellSpecification", "run_cell", "specify_cell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellSpecification:
    """What a cell does; its steps follow from the budget."""

    name: str
    """What rows call it."""
    run: ImageRunConfig
    """The training, but for its length."""
    budget: float
    """Floating-point operations of the training."""
    split: Split
    """Part of the data that is measured."""
    threads: int
    """CPU threads."""


def specify_cell(
    config: StudyConfig,
    pack: ImagePack,
    entry: MethodEntry,
    *,
    name: str,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    labels: LabelConfig | None = None,
) -> CellSpecification:
    """Says what a cell of a study does: a method by its recipe, on the study's encoder and budget.

    Args:
        config: The study.
        pack: Its images.
        entry: The method.
        name: What rows, and with the seed the cell's files, are called.
        seed: Of the training.
        settings: What differs from the recipe's settings.
        labels: Which labels it is shown.

    Returns:
        The specification.
    """
    recipe = entry.recipe(config.recipe)
    run = ImageRunConfig(
        data=config.data.absolute(),
        out=(config.out / "runs" / f"{name}-{seed}").absolute(),
        method=entry.name,
        settings={**recipe.settings, **(settings or {})},
        encoder=ImageEncoderConfig(architecture=config.architecture, image_size_px=pack.size_px),
        # Of few images at most a third, so that a bank has room beside a batch.
        batch_size=min(recipe.batch_size, len(pack.indices(Split.TRAIN)) // 3),
        labels=labels or LabelConfig(),
        fit=FitConfig(optimiser=recipe.optimiser, loop=LoopConfig(seed=seed)),
    )
    return CellSpecification(name=name, run=run, budget=config.budget, split=config.split, threads=config.threads)


def run_cell(cell: CellSpecification) -> dict[str, Any]:
    """Trains and measures.

    Args:
        cell: What to do.

    Returns:
        JSON's own types: `specification`, `flops_per_step`, `steps`, `images_per_s`, `seconds`, `labels`, `peak_bytes`,
        `failure` (None, or why the training stopped), and the figures of the encoder.
    """
    limit_threads(cell.threads)
    pack = ImagePack.open(cell.run.data)
    training = build_image_training(cell.run, pack)
    flops = step_flops(training)
    steps = max(1, round(cell.budget / flops))
    shown = training.feed.labels
    found: dict[str, Any] = {
        "specification": encode(cell),
        "flops_per_step": flops,
        "steps": steps,
        "labels": 0 if shown is None else int((shown >= 0).sum()),
        "failure": None,
    }
    try:
        result = fit_image(_of_length(cell, steps), overwrite=True)
    except (CollapseError, DivergenceError) as error:
        return found | {"failure": str(error), **_own_peak()}
    found |= {"seconds": result.seconds, "images_per_s": steps * cell.run.batch_size / result.seconds, **_own_peak()}
    data = open_data(cell.run.data)
    subject = open_subject(str(cell.run.out), data, threads=cell.threads)
    figures = evaluate_subject(subject, data, EvaluationConfig(split=cell.split))
    return found | encode_evaluated(renamed(figures, cell.name))


def _of_length(cell: CellSpecification, steps: int) -> ImageRunConfig:
    device = DeviceConfig(accelerator=Accelerator.CPU, threads=cell.threads)
    seed = cell.run.fit.loop.seed
    # Two evaluations are enough to see a curve, and cost next to nothing.
    loop = LoopConfig(max_steps=steps, seed=seed, evaluate_every_steps=max(1, steps // 2))
    return replace(cell.run, fit=FitConfig(optimiser=cell.run.fit.optimiser, loop=loop, device=device))


def _own_peak() -> dict[str, int]:
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main(arguments: Sequence[str]) -> None:
    """Reads a specification, runs it, publishes the result."""
    specification, result = map(Path, arguments)
    values: Mapping[str, Any] = json.loads(specification.read_text(encoding="utf-8"))
    publish_json(result, run_cell(decode(CellSpecification, values)))


if __name__ == "__main__":
    main(sys.argv[1:])
