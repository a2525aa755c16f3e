from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.capabilities import BOUNDS, check_index
from serving.collections.index.ann.choice import choose
from serving.collections.index.ann.effort import Effort, effort_of, harder
from serving.collections.index.ann.plan import AnnPlan, default_lists, default_segments
from serving.collections.index_types import IndexKind, IndexSpec, IndexStructure, Quantiser
from serving.collections.types import Metric
from serving.errors import InvalidInput

GIB = 2**30
CONFIG = CollectionsConfig(index_memory_bytes=16 * GIB)
HNSW, IVF, FLAT = IndexStructure.HNSW, IndexStructure.IVF, IndexStructure.FLAT


def chosen(count: int, spec: IndexSpec | None = None, dimension: int = 384, metric: Metric = Metric.COSINE) -> str:
    choice = choose(spec or IndexSpec(), record_count=count, dimension=dimension, metric=metric, config=CONFIG)
    assert choice.reason.startswith("exact" if choice.plan is None else choice.plan.name)
    return "exact" if choice.plan is None else choice.plan.name


@pytest.mark.parametrize(
    ("count", "budget", "name"),
    [
        (19_999, 0, "exact"),
        (20_000, 0, "HNSW32,fp16"),
        (1_000_000, 0, "HNSW32,fp16"),
        (1_000_000, 700 * 10**6, "HNSW32,SQ8"),
        (1_000_000, 540 * 10**6, "HNSW16,SQ8"),
        (1_000_000, 400 * 10**6, "IVF4096,SQ8"),
        (1_000_000, 70 * 10**6, "IVF4096,RaBitQ"),
        (1_000_000, 60 * 10**6, "IVF4096,PQ48"),
        (1_000_000, 10**6, "IVF4096,PQ48"),
        (10_000_000, 0, "IVF16384_HNSW32,SQ8"),
        (100_000_000, 0, "IVF32768_HNSW32,RaBitQ"),
    ],
)
def test_size_and_budget_choose(count: int, budget: int, name: str) -> None:
    assert chosen(count, IndexSpec(memory_budget_bytes=budget)) == name


def test_the_reason_is_said() -> None:
    def reason(count: int, **fields: int) -> str:
        spec = IndexSpec(**fields)  # type: ignore[arg-type]  # numbers only
        return choose(spec, record_count=count, dimension=384, metric=Metric.COSINE, config=CONFIG).reason

    assert "fewer than the 20,000" in reason(10)
    assert "fastest accurate index for this size; 992 MiB of a budget of 16,384 MiB" in reason(1_000_000)
    assert "most accurate that fits" in reason(1_000_000, memory_budget_bytes=400 * 10**6)
    assert "a graph takes too long to build" in reason(10_000_000)
    assert "still over" in reason(1_000_000, memory_budget_bytes=1)


def test_a_metric_of_any_length_keeps_float32_and_few_dimensions_have_no_rabitq() -> None:
    assert chosen(50_000, metric=Metric.L2) == "HNSW32,Flat"
    assert chosen(1_000_000, IndexSpec(memory_budget_bytes=15 * 10**6), dimension=16) == "IVF4096,PQ2"


def test_what_is_asked_for_is_what_is_built() -> None:
    assert chosen(1_000, IndexSpec(structure=HNSW, quantiser=Quantiser.SQ8, hnsw_m=24)) == "HNSW24,SQ8"
    assert chosen(999, IndexSpec(structure=HNSW)) == "exact"
    assert chosen(100_000, IndexSpec(structure=IVF, quantiser=Quantiser.PQ, lists=300, pq_segments=96)) == "IVF300,PQ96"
    assert chosen(100_000, IndexSpec(structure=IVF)) == "IVF1024,SQ8"
    assert chosen(100_000, IndexSpec(structure=HNSW, memory_budget_bytes=70 * 10**6)) == "HNSW32,SQ8"
    assert chosen(10**6, IndexSpec.of_kind(IndexKind.EXACT)) == "exact"
    assert chosen(1_000, IndexSpec(structure=IVF, quantiser=Quantiser.SQ8, lists=4_096)) == "IVF25,SQ8"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (IndexSpec(structure=HNSW, hnsw_m=129), r"hnsw_m \(129\) must be in \[4, 128\]"),
        (IndexSpec(structure=HNSW, hnsw_m=-1), "hnsw_m"),
        (IndexSpec(structure=IVF, lists=65_537), "lists"),
        (IndexSpec(structure=IVF, quantiser=Quantiser.PQ, pq_segments=7), r"must divide the dimension \(48\)"),
        (IndexSpec(structure=IVF, ef_search=10), "ef_search means nothing for ivf; leave it 0, or choose hnsw"),
        (IndexSpec(structure=HNSW, probes=10), "probes means nothing for hnsw"),
        (IndexSpec(structure=HNSW, pq_segments=8), "choose pq"),
        (IndexSpec(structure=FLAT, target_recall=0.9), "exact search"),
        (IndexSpec(quantiser=Quantiser.SQ8), "needs a structure"),
        (IndexSpec(target_recall=1.0), "target_recall"),
        (IndexSpec(structure=HNSW, rerank_factor=0.5), "rerank_factor"),
        (IndexSpec(memory_budget_bytes=-1), "memory_budget_bytes"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(spec: IndexSpec, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_index(spec, dimension=48, metric=Metric.COSINE)


def test_the_bounds_themselves_are_admitted() -> None:
    for name, ends in BOUNDS.items():
        spec = IndexSpec(structure=IndexStructure.IVF_HNSW, quantiser=Quantiser.PQ)
        for end in ends:
            fields: dict[str, Any] = {name: 48 if name == "pq_segments" and end > 1 else end}
            check_index(replace(spec, **fields), dimension=48, metric=Metric.L2)


def test_rabitq_is_refused_where_it_cannot_work() -> None:
    graph = IndexSpec(structure=HNSW, quantiser=Quantiser.RABITQ)
    lists = IndexSpec(structure=IVF, quantiser=Quantiser.RABITQ)
    with pytest.raises(InvalidInput, match="choose ivf with rabitq, or hnsw with sq8"):
        check_index(graph, dimension=48, metric=Metric.INNER_PRODUCT)
    with pytest.raises(InvalidInput, match="needs 32 dimensions or more, not 31; choose sq8"):
        check_index(lists, dimension=31, metric=Metric.COSINE)
    check_index(graph, dimension=48, metric=Metric.COSINE)
    check_index(lists, dimension=32, metric=Metric.INNER_PRODUCT)


def test_lists_and_segments_follow_size_and_dimension() -> None:
    assert [default_lists(n) for n in (1, 100, 100_000, 10**6, 10**9)] == [1, 2, 1_024, 4_096, 65_536]
    assert [default_segments(d) for d in (1, 7, 30, 100, 384, 768)] == [1, 1, 3, 10, 48, 96]


def test_effort_is_what_was_asked_for_and_rises_to_the_end() -> None:
    plan = AnnPlan(structure=IVF, quantiser=Quantiser.SQ8, lists=40)
    assert effort_of(plan, IndexSpec(), CONFIG) == Effort(probes=8, rerank_factor=1.5)
    effort = effort_of(plan, IndexSpec(probes=100, rerank_factor=2), CONFIG)
    assert effort == Effort(probes=40, rerank_factor=2)
    assert harder(Effort(probes=8, rerank_factor=1.5), plan) == Effort(probes=12, rerank_factor=2.25)
    for _ in range(20):
        effort = harder(effort, plan)
    assert effort == harder(effort, plan) == Effort(probes=40, rerank_factor=100)
    graph = AnnPlan(structure=HNSW, quantiser=Quantiser.FP16, hnsw_m=32)
    assert harder(effort_of(graph, IndexSpec(), CONFIG), graph) == Effort(ef_search=96)


def test_a_plan_survives_json() -> None:
    plan = AnnPlan(structure=IndexStructure.IVF_HNSW, quantiser=Quantiser.PQ, hnsw_m=8, lists=9, pq_segments=3)
    assert AnnPlan.from_json(plan.to_json()) == plan
