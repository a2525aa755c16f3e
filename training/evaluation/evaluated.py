"""One subject's figures, as rows to keep and as values per query to compare; stored, averaged over seeds, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.compare import average_seeds, compare_measurements
from training.evaluation.measurement import Measurement, PerQuery
from training.evaluation.results import Result

__all__ = ["Evaluated", "average_runs", "decode_evaluated", "describe_differences", "encode_evaluated", "renamed"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One subject's figures: as rows to keep, and as values to compare."""

    rows: Sequence[Result]
    measurements: Sequence[Measurement]
    """One a row, in the same order."""


def renamed(evaluated: Evaluated, name: str) -> Evaluated:
    """Returns the figures under another name.

    Args:
        evaluated: Figures.
        name: What the rows' subject is called.

    Returns:
        The same figures.
    """
    return Evaluated([replace(row, subject=name) for row in evaluated.rows], evaluated.measurements)


def average_runs(runs: Sequence[Evaluated], *, name: str, config: BootstrapConfig) -> Evaluated:
    """Averages runs that differ only in their seed, query by query.

    Args:
        runs: At least one.
        name: What the rows are called.
        config: How intervals are drawn.

    Returns:
        Their mean; its intervals are over queries.
    """
    rows, measurements = [], []
    for group in zip(*(zip(run.measurements, run.rows, strict=True) for run in runs), strict=True):
        measurement = average_seeds([member[0] for member in group])
        row = replace(group[0][1], subject=f"{name}, mean of {len(runs)} seeds")
        fingerprint = " + ".join(member[1].subject_fingerprint for member in group)
        values = {
            "subject_fingerprint": fingerprint,
            "value": measurement.value,
            "interval": measurement.interval(config),
            "seed": None,
        }
        rows.append(Result.from_json({**row.to_json(), **values}))
        measurements.append(measurement)
    return Evaluated(rows, measurements)


def describe_differences(one: Evaluated, other: Evaluated, config: BootstrapConfig | None = None) -> list[Result]:
    """Compares two subjects on every figure that both have and that is a mean over queries.

    Args:
        one: The subject that may beat.
        other: The one that may be beaten, measured on the same data.
        config: How intervals are drawn.

    Returns:
        Rows whose subject is `a - b`, whose value is the mean paired difference, with its 95 % interval.
    """
    theirs = {
        measurement.key: (measurement, row) for measurement, row in zip(other.measurements, other.rows, strict=True)
    }
    found = []
    for measurement, row in zip(one.measurements, one.rows, strict=True):
        match = theirs.get(measurement.key)
        if match is None or not isinstance(measurement.outcome, PerQuery):
            continue
        difference = compare_measurements(measurement, match[0], config)
        found.append(
            replace(
                row,
                subject=f"{row.subject} - {match[1].subject}",
                metric=f"{row.metric} difference",
                subject_fingerprint=f"{row.subject_fingerprint} - {match[1].subject_fingerprint}",
                value=difference.mean,
                interval=(difference.low, difference.high),
                flops=None,
            )
        )
    return found


def encode_evaluated(evaluated: Evaluated) -> dict[str, Any]:
    """Turns figures into JSON's own types, values per query included.

    Args:
        evaluated: Figures.

    Returns:
        What `decode_evaluated` reads.
    """
    cells = []
    for row, measurement in zip(evaluated.rows, evaluated.measurements, strict=True):
        outcome = measurement.outcome
        per_query = None
        if isinstance(outcome, PerQuery):
            clusters = None if outcome.clusters is None else outcome.clusters.tolist()
            per_query = {"values": outcome.values.tolist(), "clusters": clusters}
        cells.append({"row": row.to_json(), "layer": measurement.layer, "per_query": per_query})
    return {"cells": cells}


def decode_evaluated(stored: Mapping[str, Any]) -> Evaluated:
    """Reads what `encode_evaluated` gave.

    Args:
        stored: JSON's own types.

    Returns:
        The figures.
    """
    rows = [Result.from_json(cell["row"]) for cell in stored["cells"]]
    measurements = []
    for row, cell in zip(rows, stored["cells"], strict=True):
        outcome: PerQuery | float = row.value
        if cell["per_query"] is not None:
            clusters = cell["per_query"]["clusters"]
            outcome = PerQuery(
                np.array(cell["per_query"]["values"], dtype=np.float64),
                None if clusters is None else np.array(clusters, dtype=np.int64),
            )
        measurements.append(
            Measurement(
                task=row.task,
                metric=row.metric,
                outcome=outcome,
                parameters=row.parameters,
                layer=cell["layer"],
                n_gallery=row.n_gallery,
                n_query=row.n_query,
                labels_used=row.labels_used,
            )
        )
    return Evaluated(rows, measurements)
