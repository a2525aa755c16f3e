"""What the quality benchmarks share: packs, trained runs and measured cells that an interrupted run finds again.

A cell is one subject's figures, kept with its values per query, so that subjects can be compared query by query
whenever they were measured. A cell whose subject, data or settings have changed is measured anew.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, count
from pathlib import Path
from typing import Any

from rich.console import Console

from training.corpora.catalogue import fetch
from training.corpora.image_pack import write_image_pack
from training.corpora.readers.packaged_images import IMAGE_READERS
from training.corpora.readers.packaged_texts import TEXT_READERS
from training.corpora.splits import SplitFractions
from training.corpora.text_pack import write_text_pack
from training.evaluation.environment import describe_environment
from training.evaluation.evaluate import evaluate_subject
from training.evaluation.evaluated import (
    Evaluated,
    decode_evaluated,
    describe_differences,
    encode_evaluated,
    renamed,
)
from training.evaluation.open_subject import EvaluationData, open_subject
from training.evaluation.report import markdown_table, rich_table
from training.evaluation.results import Result, write_results
from training.evaluation.suite import EvaluationConfig
from training.evaluation.threads import limit_threads
from training.publish import publish_json

__all__ = ["Bench", "BenchOptions", "ensure_pack", "training_row"]

_QUICK_SHARE = 12
"""A quick pack holds one in this many items."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchOptions:
    """Flags of every quality benchmark."""

    out: Path = Path("build/benchmarks")
    """Where packs, runs, cells and results are kept; a second call goes on from what is there."""
    quick: bool = False
    """A smoke run in about a minute: a twelfth of the data, a few steps. Its figures mean nothing."""
    threads: int = 2
    """CPU threads of training and evaluation."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training for each."""


class Bench:
    """One benchmark's folder, and what is done in it.

    Args:
        name: The benchmark's.
        options: Flags.
        config: How subjects are measured.
    """

    def __init__(self, name: str, options: BenchOptions, config: EvaluationConfig) -> None:
        limit_threads(options.threads)
        self.options = options
        self.config = config
        self.root = options.out / ("quick" if options.quick else "full")
        self.folder = self.root / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._console = Console(stderr=True)
        values = describe_environment() | {"seeds": str(options.seeds), "quick": str(options.quick)}
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()), flush=True)

    def train(self, kind: str, pack: Path, run: str, flags: Sequence[str]) -> Path:
        """Trains by the `diptych` command in a process of its own, unless the same command has finished before.

        Args:
            kind: `text` or `image`.
            pack: The data.
            run: Name of the run's folder.
            flags: What else the command is told.

        Returns:
            The run's folder; `training_row` tells what it cost.
        """
        folder, note = self.folder / run, self.folder / f"{run}.training.json"
        words = ["train", kind, str(pack), str(folder), *flags, "--threads", str(self.options.threads)]
        if _read(note).get("command") == words:
            return folder
        self._say(f"diptych {' '.join(words)}")
        before = _child_seconds()
        subprocess.run([sys.executable, "-m", "diptych.cli.main", *words, "--overwrite"], check=True)
        publish_json(note, {"command": words, "cpu_s": _child_seconds() - before})
        return folder

    def measure(self, subject: str, data: EvaluationData, *, name: str, seed: int = 0) -> Evaluated:
        """Measures a subject, unless the same cell is there.

        Args:
            subject: As `diptych eval` names it.
            data: What it is measured on.
            name: What rows and the cell are called.
            seed: Of an untrained subject's weights.

        Returns:
            Its figures.
        """
        opened = open_subject(subject, data, seed=seed, threads=self.options.threads)
        described = {
            "fingerprint": opened.info.fingerprint,
            "data": data.fingerprint,
            "config": repr(self.config),
        }
        cell = self.folder / f"{name.replace(' ', '-')}.cell.json"
        stored = _read(cell)
        if stored.get("described") == described:
            return decode_evaluated(stored)
        self._say(f"evaluate {name}")
        found = renamed(evaluate_subject(opened, data, self.config), name)
        publish_json(cell, {"described": described, **encode_evaluated(found)})
        return found

    def conclude(self, rows: Sequence[Result]) -> None:
        """Prints the main rows, on a terminal as a table, else as Markdown, and writes all of them.

        Args:
            rows: All that was found.
        """
        console = Console()
        main = [row for row in rows if _is_main(row)]
        if console.is_terminal:
            console.print(rich_table(main))
        else:
            print(markdown_table(main))
        write_results(self.folder / "results.json", rows)
        print(f"rows: {self.folder / 'results.json'}")

    def differences(self, one: Evaluated, others: Sequence[Evaluated]) -> list[Result]:
        """Compares a subject with others, query by query, and says whom it beats.

        Args:
            one: The subject.
            others: Those it may beat.

        Returns:
            Rows of differences, with the paired bootstrap's 95 % interval.
        """
        return [row for other in others for row in describe_differences(one, other, self.config.bootstrap)]

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def ensure_pack(name: str, folder: Path, *, quick: bool, size_px: int | None = None, test: float = 0.1) -> Path:
    """Packs a packaged set, unless the pack is there.

    Args:
        name: `wiki`, `emoji` or `fashion-mnist`.
        folder: Where.
        quick: Whether only a share of it is packed.
        size_px: Side of the images; None for texts.
        test: Share held out, where the publisher has not divided the set.

    Returns:
        The pack.
    """
    destination = folder / (name if size_px is None else f"{name}-{size_px}px")
    if destination.exists():
        return destination
    fractions = SplitFractions(validation=0.05, test=test)
    source = fetch(name)
    # Three in a row are kept together: they are one concept's drawings by three vendors.
    kept = (number // 3 % _QUICK_SHARE == 0 for number in count()) if quick else (True for _ in count())
    if size_px is None:
        write_text_pack(compress(TEXT_READERS[name](source), kept), destination, source=name, fractions=fractions)
    else:
        items = compress(IMAGE_READERS[name](source), kept)
        write_image_pack(items, destination, size_px=size_px, source=name, root=source, fractions=fractions)
    return destination


def training_row(run: Path, evaluated: Evaluated) -> Result:
    """Says what a run's training cost, as a row beside its figures.

    Args:
        run: The run's folder, trained by `Bench.train`.
        evaluated: Its figures.

    Returns:
        CPU minutes, summed over threads, imports included.
    """
    note = _read(run.parent / f"{run.name}.training.json")
    row = evaluated.rows[0].to_json()
    changed = {
        "task": "training",
        "metric": "cpu-minutes",
        "layer": "",
        "parameters": {},
        "n_gallery": 0,
        "n_query": 1,
        "value": note["cpu_s"] / 60,
        "interval": None,
        "labels_used": 0,
        "split": "train",
    }
    return Result.from_json({**row, **changed})


def _is_main(row: Result) -> bool:
    """Leaves out of the printed table what only repeats it in more detail."""
    if row.metric.startswith(("recall@5", "recall@10", "alignment difference")):
        return False
    return " to " not in str(row.parameters.get("direction", ""))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
