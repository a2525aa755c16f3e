"""Runs a study's cells one after the other, each in its own process, and keeps what they found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle.encoder import Modality
from training.config_json import encode
from training.evaluation.evaluate import evaluate_subject, open_data
from training.evaluation.evaluated import Evaluated, decode_evaluated, encode_evaluated, renamed
from training.evaluation.open_subject import open_subject
from training.evaluation.suite import EvaluationConfig
from training.evaluation.threads import limit_threads
from training.publish import publish_json
from training.study.cell import CellSpecification
from training.study.config import StudyConfig

__all__ = ["Cell", "CellFailedError", "measure_floors", "run_cells"]


class CellFailedError(ValueError):
    """Some cells of a study left no result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A finished cell."""

    specification: CellSpecification
    seed: int
    flops_per_step: float
    steps: int
    labels: int
    """Labels that the training was shown."""
    failure: str | None
    """Why it was stopped, where it was."""
    cpu_seconds: float | None
    """Of the training, summed over threads, start and evaluation of the run included."""
    peak_bytes: int
    """Most memory of the cell's process, libraries included."""
    evaluated: Evaluated | None
    """The encoder's figures."""


def run_cells(
    cells: Sequence[CellSpecification], out: Path, *, report: Callable[[str], None] = lambda _: None
) -> list[Cell]:
    """Runs cells one after the other, each in its own process; one that has finished before is read.

    Args:
        cells: What to run.
        out: Folder of the study; `cells/NAME-SEED.json` is a cell's result.
        report: Is told which cell begins.

    Returns:
        Their results, in order.

    Raises:
        CellFailedError: Some cells' processes failed; all others were run, and are kept.
    """
    (out / "cells").mkdir(parents=True, exist_ok=True)
    found, failed = [], []
    for number, cell in enumerate(cells, start=1):
        path = out / "cells" / f"{cell.run.out.name}.json"
        if _read(path).get("specification") != encode(cell):
            report(f"cell {number} of {len(cells)}: {cell.name}, seed {cell.run.fit.loop.seed}")
            if not _run(cell, path):
                failed.append(cell.run.out.name)
                continue
        found.append(_decode(cell, _read(path)))
    if failed:
        raise CellFailedError(
            f"{len(failed)} of {len(cells)} cells failed: {', '.join(failed)}; what they said is above. The others are "
            f"kept in {out / 'cells'}: the same command goes on with those that are missing"
        )
    return found


def measure_floors(config: StudyConfig, cells: Sequence[Cell]) -> list[Evaluated]:
    """Measures what nobody trained here, once a study.

    Raw and centred pixels, or TF-IDF; the encoder before training; what else the study wants beside the methods.

    Args:
        config: What is studied.
        cells: Its cells, of which one has an encoder's shape.

    Returns:
        Their figures.
    """
    limit_threads(config.threads)
    data = open_data(config.data)
    found = []
    for name, subject in _floors(config, data.modality, cells).items():
        path = config.out / "cells" / f"floor-{name}.json"
        opened = open_subject(subject, data, threads=config.threads)
        described = {"fingerprint": opened.info.fingerprint, "data": data.fingerprint, "split": str(config.split)}
        stored = _read(path)
        if stored.get("described") != described:
            figures = renamed(evaluate_subject(opened, data, EvaluationConfig(split=config.split)), name)
            stored = {"described": described, **encode_evaluated(figures)}
            publish_json(path, stored)
        found.append(decode_evaluated(stored))
    return found


def _floors(config: StudyConfig, modality: Modality, cells: Sequence[Cell]) -> dict[str, str]:
    """Returns subjects by the names that rows have."""
    is_text = modality is Modality.TEXT
    names = {"tf-idf": "tf-idf"} if is_text else {"raw-pixels": "raw-pixels", "centred-pixels": "centred-pixels"}
    trained = [cell.specification.run for cell in cells if cell.evaluated is not None]
    if config.init is None and trained:
        names["untrained"] = f"untrained:{trained[0].out}"
    if config.init is not None and is_text:
        names["before"] = str(config.init)
    return names | {Path(subject).name: subject for subject in config.beside}


def _run(cell: CellSpecification, path: Path) -> bool:
    """Runs one cell; returns whether it left a result."""
    specification = path.with_suffix(".specification.json")
    publish_json(specification, encode(cell))
    done = subprocess.run([sys.executable, "-m", "training.study.cell", specification, path], check=False)
    specification.unlink()
    return done.returncode == 0


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _decode(cell: CellSpecification, values: dict[str, Any]) -> Cell:
    return Cell(
        specification=cell,
        seed=cell.run.fit.loop.seed,
        flops_per_step=values["flops_per_step"],
        steps=values["steps"],
        labels=values["labels"],
        failure=values["failure"],
        cpu_seconds=values.get("cpu_seconds"),
        peak_bytes=values["peak_bytes"],
        evaluated=decode_evaluated(values) if "cells" in values else None,
    )
