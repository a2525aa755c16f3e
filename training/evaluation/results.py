"""Evaluation results: one row a figure, the same row in the manifest, in printed tables and in the documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from training.publish import publish_text

__all__ = ["SCHEMA_VERSION", "Interval95", "Parameter", "Result", "read_results", "write_results"]

SCHEMA_VERSION = 1
"""Raised by every change that an older reader would misread."""

Parameter = str | int | float | bool | None
"""What a metric's setting may be."""

Interval95 = tuple[float, float]
"""Ends of a 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One figure and everything that is needed to read it."""

    subject: str
    """What was measured, as people call it; for a difference, `a - b`."""
    subject_fingerprint: str
    """Identifies exactly what was measured."""
    data: str
    """Name of the data."""
    data_fingerprint: str
    """Identifies exactly the data."""
    split: str
    """Part of the data the queries are from."""
    task: str
    """What is asked, such as `next-sentence`."""
    metric: str
    """What is computed, such as `mrr`."""
    layer: str
    """What was compared: `embedding` (served), `towers` (f and g), `pixels`, `words`."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """The metric's settings: k, temperature, pool size, …"""
    n_gallery: int
    """Items an answer is looked for among; 0 where there is no gallery."""
    n_query: int
    """Items asked, or averaged over."""
    value: float
    interval: Interval95 | None = None
    """95 % bootstrap interval; None where the metric has none."""
    seed: int | None = None
    """The subject's training seed; None where it has none or several were averaged."""
    labels_used: int = 0
    """Labels that the metric read; 0 for label-free ones."""
    flops: float | None = None
    """Floating-point operations to embed one item; None where not counted."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where it was measured: processor, threads, versions."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Checks the version and the interval."""
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"the result has schema version {self.schema_version}, this program reads {SCHEMA_VERSION}; "
                "measure it again"
            )
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"interval {self.interval} must not end before it begins")

    @property
    def measure(self) -> tuple[str, str, str]:
        """What two rows must share to stand beside each other: task, metric and settings, as text."""
        settings = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        return self.task, self.metric, settings

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON's own types, the schema version first."""
        values = asdict(self)
        return {"schema_version": values.pop("schema_version"), **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds a row from `to_json`'s result.

        Args:
            values: Field values by name.

        Returns:
            The row.

        Raises:
            ValueError: A field is missing or unknown, or the schema is another version's.
        """
        unknown = sorted(set(values) - {known.name for known in fields(cls)})
        if unknown:
            raise ValueError(f"a result has no field {', '.join(unknown)}; it was written by another version")
        interval = values.get("interval")
        try:
            return cls(**{**values, "interval": None if interval is None else (interval[0], interval[1])})
        except TypeError as error:
            raise ValueError(f"a result row is incomplete: {error}") from error


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Writes rows as a JSON list, one row a line, published in one step.

    Args:
        path: Where; an existing file is replaced.
        results: The rows.
    """
    lines = ",\n".join(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False) for result in results)
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_text(path, f"[\n{lines}\n]\n")


def read_results(path: Path) -> list[Result]:
    """Reads what `write_results` wrote.

    Args:
        path: The file.

    Returns:
        The rows, in order.

    Raises:
        ValueError: It is no list of rows of this schema.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must hold a list of result rows")
    return [Result.from_json(row) for row in rows]
