"""A run's figures: metrics.csv for people and programs, TensorBoard events for its viewer."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.run_folder import METRICS_FILE

__all__ = ["MetricsLog", "read_metrics"]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Reads a run's figures.

    Args:
        path: Its `metrics.csv`.

    Returns:
        One dictionary a row, without the cells that are empty; `step` and `epoch` in each. Empty without a file.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


class MetricsLog:
    """Writes a row per logged step. A resumed run's log goes on where its checkpoint stands.

    Args:
        folder: The run's folder.
        first_step: Steps done before; rows of later steps, written after the checkpoint, are dropped.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        self._path = folder / METRICS_FILE
        self._rows = [row for row in read_metrics(self._path) if row["step"] <= first_step]
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row)) or ["step", "epoch"]
        self._events = SummaryWriter(str(folder), purge_step=first_step or None)
        self._rewrite()

    @property
    def rows(self) -> list[dict[str, float]]:
        """Every row so far."""
        return self._rows

    def write(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a row.

        Args:
            step: Steps done.
            epoch: Passes begun.
            values: The figures by name.
        """
        row = {"step": float(step), "epoch": float(epoch), **values}
        self._rows.append(row)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        unknown = [name for name in row if name not in self._columns]
        if unknown:
            self._columns.extend(unknown)
            self._rewrite()
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(_cells(row))

    def close(self) -> None:
        """Flushes the events."""
        self._events.close()

    def _rewrite(self) -> None:
        buffer = io.StringIO(newline="")
        writer = self._writer(buffer)
        writer.writeheader()
        writer.writerows(_cells(row) for row in self._rows)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(buffer.getvalue(), encoding="utf-8", newline="")
        temporary.replace(self._path)

    def _writer(self, file: io.TextIOBase | io.StringIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, restval="", lineterminator="\n")


def _cells(row: Mapping[str, float]) -> dict[str, str]:
    # repr keeps every digit of a float, so that two runs can be compared exactly.
    return {name: str(int(value)) if name in {"step", "epoch"} else repr(float(value)) for name, value in row.items()}
