"""How hard an index searches: what a caller asked for, or what suits the index; a controller may raise it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser

__all__ = ["Effort", "effort_of", "harder"]

_RERANK = {
    Quantiser.FLOAT32: 1.0,
    Quantiser.FP16: 1.0,
    Quantiser.SQ8: 1.5,
    Quantiser.PQ: 8.0,
    Quantiser.RABITQ: 8.0,
}
_LEAST_PROBES = 8
_PROBED_SHARE = 64
_MAX_EF = 4_096
_MAX_RERANK = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Search settings of one index; those that do not belong to it are 0."""

    ef_search: int = 0
    """Least candidates kept in a graph."""
    probes: int = 0
    """Lists read."""
    rerank_factor: float = 1.0
    """Candidates asked for each one wanted."""


def effort_of(plan: AnnPlan, spec: IndexSpec, config: CollectionsConfig) -> Effort:
    """Returns how hard to search an index.

    Args:
        plan: The index.
        spec: What was asked for.
        config: The server's settings.

    Returns:
        What was asked for, and for the rest what suits the index.
    """
    lists = plan.lists
    return Effort(
        ef_search=(spec.ef_search or config.ef_search) if plan.structure is IndexStructure.HNSW else 0,
        probes=min(lists, spec.probes or max(_LEAST_PROBES, lists // _PROBED_SHARE)) if plan.has_lists else 0,
        rerank_factor=spec.rerank_factor or _RERANK[plan.quantiser],
    )


def harder(effort: Effort, plan: AnnPlan) -> Effort:
    """Returns the next step up.

    Args:
        effort: As it is.
        plan: The index.

    Returns:
        Half as much again of everything, up to what the index has; the same where all is used up.
    """
    lossy = plan.quantiser not in (Quantiser.FLOAT32, Quantiser.FP16)
    return replace(
        effort,
        ef_search=min(_MAX_EF, _raised(effort.ef_search)),
        probes=min(plan.lists, _raised(effort.probes)),
        rerank_factor=min(_MAX_RERANK, effort.rerank_factor * 1.5) if lossy else effort.rerank_factor,
    )


def _raised(value: int) -> int:
    return math.ceil(value * 1.5)
