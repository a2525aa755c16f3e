"""The index of a collection in words and numbers."""

from __future__ import annotations

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.choice import choose
from serving.collections.index.derived import DerivedIndex
from serving.collections.index.view import IndexView
from serving.collections.index_types import IndexKind, IndexStatus, RecallEstimate, structure_kind
from serving.collections.types import CollectionSpec

__all__ = ["index_status"]


def index_status(
    spec: CollectionSpec,
    view: IndexView,
    index: DerivedIndex,
    config: CollectionsConfig,
    recall: RecallEstimate | None = None,
) -> IndexStatus:
    """Describes what answers searches now.

    Args:
        spec: The collection.
        view: The last committed state.
        index: Its index.
        config: The server's settings.
        recall: What was measured.

    Returns:
        The status.
    """
    ann, base = view.graph, index.base
    if ann is None:
        choice = choose(
            spec.index, record_count=view.record_count, dimension=spec.dimension, metric=spec.metric, config=config
        )
        reason = choice.reason if choice.plan is None else f"exact, until it is built: {choice.reason}"
        return IndexStatus(
            active="exact",
            kind=IndexKind.EXACT,
            reason=reason,
            bytes_per_vector=0.0,
            indexed_count=0,
            tail_count=view.tail_alive_count,
            build_progress=index.progress,
        )
    return IndexStatus(
        active=ann.plan.name,
        kind=structure_kind(ann.plan.structure, ann.plan.quantiser),
        reason=base.reason if base is not None else "",
        bytes_per_vector=ann.size_bytes / max(1, len(ann)),
        indexed_count=view.base_alive_count,
        tail_count=view.tail_alive_count,
        build_progress=index.progress,
        ef_search=ann.effort.ef_search,
        probes=ann.effort.probes,
        rerank_factor=ann.effort.rerank_factor,
        recall=recall,
    )
