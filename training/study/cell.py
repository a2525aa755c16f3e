"""One cell of a study: one method, one seed, trained to the budget and measured, in a process of its own.

Run as `python -m training.study.cell SPECIFICATION RESULT`; the process's own peak is the cell's memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.config_json import decode, encode
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.evaluation.evaluate import evaluate_subject, open_data
from training.evaluation.evaluated import encode_evaluated, renamed
from training.evaluation.open_subject import open_subject
from training.evaluation.suite import EvaluationConfig
from training.evaluation.threads import limit_threads
from training.fit.collapse import CollapseError, DivergenceError
from training.fit.fit_image import fit_image
from training.fit.fit_text import fit_text
from training.fit.image_training import build_image_training
from training.fit.text_training import build_text_training, find_tokenizer
from training.publish import publish_json
from training.run_config import ImageRunConfig, TextRunConfig
from training.study.flops import step_flops

__all__ = ["CellSpecification", "run_cell"]

_TEXT_BATCHES = 8
"""Batches of texts whose cost is averaged: a batch of long sentences costs more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellSpecification:
    """What a cell does; its steps follow from the budget."""

    name: str
    """What rows call it."""
    run: ImageRunConfig | TextRunConfig
    """The training, but for its length."""
    budget: float
    """Floating-point operations of the training."""
    split: Split
    """Part of the data that is measured."""
    threads: int
    """CPU threads."""


def run_cell(cell: CellSpecification) -> dict[str, Any]:
    """Trains and measures.

    Args:
        cell: What to do.

    Returns:
        JSON's own types: `specification`, `flops_per_step`, `steps`, `cpu_seconds`, `labels`, `peak_bytes`, `failure`
        (None, or why the training stopped), and the figures of the encoder.
    """
    limit_threads(cell.threads)
    flops, labels = _look_ahead(cell.run)
    steps = max(1, round(cell.budget / flops))
    found: dict[str, Any] = {
        "specification": encode(cell),
        "flops_per_step": flops,
        "steps": steps,
        "labels": labels,
        "failure": None,
    }
    started = time.process_time()
    try:
        _fit(cell, steps)
    except (CollapseError, DivergenceError) as error:
        return found | {"failure": str(error), **_own_peak()}
    found |= {"cpu_seconds": time.process_time() - started, **_own_peak()}
    data = open_data(cell.run.data)
    subject = open_subject(str(cell.run.out), data, threads=cell.threads)
    figures = evaluate_subject(subject, data, EvaluationConfig(split=cell.split))
    return found | encode_evaluated(renamed(figures, cell.name))


def _look_ahead(run: ImageRunConfig | TextRunConfig) -> tuple[float, int]:
    """Returns what a step costs, and how many labels the training is shown."""
    if isinstance(run, TextRunConfig):
        pack = TextPack.open(run.data)
        text = build_text_training(run, pack, find_tokenizer(run, pack))
        return step_flops(text.method, text.feed, batches=_TEXT_BATCHES), 0
    image = build_image_training(run, ImagePack.open(run.data))
    shown = image.feed.labels
    return step_flops(image.method, image.feed), 0 if shown is None else int((shown >= 0).sum())


def _fit(cell: CellSpecification, steps: int) -> None:
    device = DeviceConfig(accelerator=Accelerator.CPU, threads=cell.threads)
    # Two evaluations are enough to see a curve, and cost next to nothing.
    loop = LoopConfig(max_steps=steps, seed=cell.run.fit.loop.seed, evaluate_every_steps=max(1, steps // 2))
    fit = FitConfig(optimiser=cell.run.fit.optimiser, loop=loop, device=device)
    if isinstance(cell.run, TextRunConfig):
        fit_text(replace(cell.run, fit=fit), overwrite=True)
    else:
        fit_image(replace(cell.run, fit=fit), overwrite=True)


def _own_peak() -> dict[str, int]:
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main(arguments: Sequence[str]) -> None:
    """Reads a specification, runs it, publishes the result."""
    specification, result = map(Path, arguments)
    values: Mapping[str, Any] = json.loads(specification.read_text(encoding="utf-8"))
    publish_json(result, run_cell(decode(CellSpecification, values)))


if __name__ == "__main__":
    main(sys.argv[1:])
