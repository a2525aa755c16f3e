"""Which index a collection gets, and why: by what was asked for, its size, dimension and memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.capabilities import RABITQ_MIN_DIMENSION
from serving.collections.index.ann.plan import AnnPlan, default_lists, default_segments
from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser
from serving.collections.types import Metric

__all__ = ["Choice", "choose", "least_records"]

_LOW_M = 16
_GRAPH_RECORDS = 5_000_000
"""Records from which building a graph takes too long (8,000 a second on two cores), whatever the memory."""
_MANY_LISTS = 16_384
"""Lists from which the nearest centroids are found through a graph."""
_PQ_RECORDS = 512
"""Twice the records that PQ needs to learn its code from: a shrinking collection keeps its index down to half."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An index, or none, and why."""

    plan: AnnPlan | None
    """`None`: every vector is compared."""
    reason: str
    """One sentence for people."""


def least_records(spec: IndexSpec, config: CollectionsConfig) -> int:
    """Returns from how many records on a collection has a base.

    Args:
        spec: As asked for.
        config: The server's thresholds.

    Returns:
        At least 1; an index that was asked for by name comes earlier than one the server chooses.
    """
    if spec.structure is IndexStructure.AUTO or spec.is_exact:
        return config.auto_index_records
    return max(config.hnsw_min_records, _PQ_RECORDS if spec.quantiser is Quantiser.PQ else 1)


def choose(
    spec: IndexSpec,
    *,
    record_count: int,
    dimension: int,
    metric: Metric,
    config: CollectionsConfig,
    is_due: bool = False,
) -> Choice:
    """Decides on an index for so many records.

    Args:
        spec: As asked for, checked.
        record_count: Records to be indexed.
        dimension: Width of their vectors.
        metric: How closeness is scored.
        config: The server's settings.
        is_due: Whether it was found already that the collection has enough records, or still has.

    Returns:
        The index and the reason.
    """
    least = least_records(spec, config)
    if not is_due and record_count < least:
        return Choice(None, f"exact: {record_count:,} records are fewer than the {least:,} from which an index pays")
    if spec.is_exact:
        return Choice(None, "exact: as asked for")
    budget = spec.memory_budget_bytes or config.index_memory_bytes
    rungs = list(_rungs(spec, record_count, dimension, metric, config))
    if len(rungs) == 1:
        return Choice(rungs[0], f"{rungs[0].name}: as asked for")
    for plan in rungs:
        needed = plan.bytes_per_vector(dimension) * record_count
        if needed <= budget:
            return Choice(plan, f"{plan.name}: {_why(plan, rungs[0], record_count)}{_sizes(needed, budget)}")
    return Choice(rungs[-1], f"{rungs[-1].name}: the smallest there is, still over{_sizes(needed, budget)}")


def _why(plan: AnnPlan, first: AnnPlan, record_count: int) -> str:
    if plan == first and plan.has_lists and record_count >= _GRAPH_RECORDS:
        return f"from {_GRAPH_RECORDS:,} records on a graph takes too long to build;"
    return "the fastest accurate index for this size;" if plan == first else "the most accurate that fits;"


def _sizes(needed: float, budget: int) -> str:
    return f" {needed / 2**20:,.0f} MiB of a budget of {budget / 2**20:,.0f} MiB"


def _rungs(
    spec: IndexSpec, record_count: int, dimension: int, metric: Metric, config: CollectionsConfig
) -> Iterator[AnnPlan]:
    """Yields the indexes that agree with the specification, the most accurate first, each smaller than the last."""
    lists = default_lists(record_count, spec.lists)
    inverted = IndexStructure.IVF_HNSW if lists >= _MANY_LISTS else IndexStructure.IVF
    # float16 blurs unit vectors by 2^-11; vectors of any length may lie far from the origin, where that is much.
    finest = Quantiser.FP16 if metric is Metric.COSINE else Quantiser.FLOAT32
    graph = config.hnsw_m
    ladder: list[tuple[IndexStructure, Quantiser, int]] = [
        (IndexStructure.HNSW, finest, graph),
        (IndexStructure.HNSW, Quantiser.SQ8, graph),
        (IndexStructure.HNSW, Quantiser.SQ8, min(_LOW_M, graph)),
        (inverted, Quantiser.SQ8, graph),
        (inverted, Quantiser.RABITQ, graph),
        (inverted, Quantiser.PQ, graph),
    ]
    if spec.structure is not IndexStructure.AUTO:
        ladder = _told(spec, finest, graph)
    elif record_count >= _GRAPH_RECORDS:
        ladder = ladder[3:]
    for structure, quantiser, links in ladder:
        if quantiser is Quantiser.RABITQ and dimension < RABITQ_MIN_DIMENSION:
            continue
        plan = AnnPlan(structure=structure, quantiser=quantiser)
        yield AnnPlan(
            structure=structure,
            quantiser=quantiser,
            hnsw_m=(spec.hnsw_m or links) if plan.has_graph else 0,
            lists=lists if plan.has_lists else 0,
            pq_segments=(spec.pq_segments or default_segments(dimension)) if quantiser is Quantiser.PQ else 0,
        )


def _told(spec: IndexSpec, finest: Quantiser, links: int) -> list[tuple[IndexStructure, Quantiser, int]]:
    if spec.quantiser is not Quantiser.AUTO:
        return [(spec.structure, spec.quantiser, links)]
    choices = {
        IndexStructure.HNSW: [finest, Quantiser.SQ8],
        IndexStructure.FLAT: [Quantiser.FLOAT32],
    }.get(spec.structure, [Quantiser.SQ8, Quantiser.RABITQ, Quantiser.PQ])
    return [(spec.structure, quantiser, links) for quantiser in choices]
