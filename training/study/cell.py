"""One cell of a study: one method, one seed, trained to the budget and measured, in a process of its own.

Run as `python -m training.study.cell SPECIFICATION RESULT`; the process's own peak is the cell's memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
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
from training.fit.image_training import build_image_training, count_training_images
from training.fit.method_settings import parse_settings
from training.methods.recipes import Recipe
from training.methods.table import MethodEntry
from training.publish import publish_json
from training.run_config import ImageRunConfig, LabelConfig
from training.study.config import StudyConfig
from training.study.flops import step_flops

__all__ = ["CellSpecification", "require_known_settings", "run_cell", "specify_cell"]


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
    recipe: Recipe | None = None,
) -> CellSpecification:
    """Says what a cell of a study does: a method by its recipe, on the study's encoder and budget.

    Args:
        config: The study.
        pack: Its images.
        entry: The method.
        name: What rows, and with the seed the cell's files, are called.
        seed: Of the training.
        settings: What this cell has in place of the recipe's and of the study's settings.
        recipe: In place of the study's.

    Returns:
        The specification.

    Raises:
        ValueError: The method has no recipe of the study's name.
    """
    recipe = recipe or entry.recipe(config.recipe)
    offered = _offered(entry)
    told = {name: value for name, value in parse_settings(config.set).items() if name in offered}
    run = ImageRunConfig(
        data=config.data.absolute(),
        out=(config.out / "runs" / f"{name}-{seed}").absolute(),
        method=entry.name,
        settings={**recipe.settings, **told, **(settings or {})},
        encoder=ImageEncoderConfig(architecture=config.architecture, image_size_px=pack.size_px),
        batch_size=recipe.batch_size,
        labels=config.labels if entry.load().needs.labels else LabelConfig(),
        fit=FitConfig(optimiser=recipe.optimiser, loop=LoopConfig(seed=seed)),
    )
    # Of few images at most a third, so that a bank has room beside a batch.
    run = replace(run, batch_size=max(2, min(run.batch_size, count_training_images(run, pack) // 3)))
    return CellSpecification(name=name, run=run, budget=config.budget, split=config.split, threads=config.threads)


def require_known_settings(config: StudyConfig, entries: Sequence[MethodEntry]) -> None:
    """Refuses a setting that no method of a study has: nobody would be told it.

    Args:
        config: The study.
        entries: Its methods.

    Raises:
        ValueError: There is such a setting.
    """
    offered = set().union(*(_offered(entry) for entry in entries))
    unknown = [name for name in parse_settings(config.set) if name not in offered]
    if unknown:
        names = ", ".join(sorted(offered)).replace("_", "-")
        raise ValueError(f"--set {unknown[0].replace('_', '-')}: no method of this study has it; they have {names}")


def _offered(entry: MethodEntry) -> set[str]:
    return {field.name for field in fields(entry.load_config())}


def run_cell(cell: CellSpecification) -> dict[str, Any]:
    """Trains and measures.

    Args:
        cell: What to do.

    Returns:
        JSON's own types: `specification`, `flops_per_step`, `steps`, `cpu_seconds`, `labels`, `peak_bytes`, `failure`
        (None, or why the training stopped), and the figures of the encoder.
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
    started = time.process_time()
    try:
        fit_image(_of_length(cell, steps), overwrite=True)
    except (CollapseError, DivergenceError) as error:
        return found | {"failure": str(error), **_own_peak()}
    found |= {"cpu_seconds": time.process_time() - started, **_own_peak()}
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
