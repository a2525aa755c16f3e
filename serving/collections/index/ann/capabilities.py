"""What each index can do; what it cannot is refused before anything is built.

| quantiser | metrics                                  | dimensions                  | bytes a vector |
| --------- | ---------------------------------------- | --------------------------- | -------------- |
| float32   | all                                      | all                         | 4 d            |
| fp16      | all (vectors are scaled down where long) | all                         | 2 d            |
| sq8       | all                                      | all                         | d              |
| pq        | all                                      | those its segments divide   | segments       |
| rabitq    | all; on a graph not the inner product    | from 32 on                  | d / 8 + 8      |

Each stands on each structure, and each takes a selector (deleted records, filters). FAISS's flat PQ takes none, so it
is built as an IVF of one list, which is the same scan.
"""

from __future__ import annotations

from serving.collections.index_types import IndexSpec, IndexStructure, Quantiser
from serving.collections.types import Metric
from serving.errors import InvalidInput

__all__ = ["BOUNDS", "RABITQ_MIN_DIMENSION", "check_index"]

RABITQ_MIN_DIMENSION = 32
"""With fewer bits a vector, too many vectors share a code."""
BOUNDS: dict[str, tuple[float, float]] = {
    "hnsw_m": (4, 128),
    "lists": (1, 65_536),
    "pq_segments": (1, 65_536),
    "ef_search": (1, 4_096),
    "probes": (1, 65_536),
    "rerank_factor": (1, 100),
    "memory_budget_bytes": (1, 2**62),
    "target_recall": (0.5, 0.999),
}
"""Least and greatest value of each number that is not left to the server."""


def check_index(spec: IndexSpec, *, dimension: int, metric: Metric) -> None:
    """Refuses an index that cannot be built, and numbers that mean nothing for it.

    Args:
        spec: As asked for.
        dimension: Width of the vectors.
        metric: How closeness is scored.

    Raises:
        InvalidInput: The combination or a number is out of bounds; the message names the remedy.
    """
    for name, (least, most) in BOUNDS.items():
        value = getattr(spec, name)
        if value and not least <= value <= most:
            raise InvalidInput(f"index {name} ({value}) must be in [{least}, {most}], or 0 to leave it to the server")
    _check_numbers(spec)
    _check_quantiser(spec, dimension, metric)


def _check_numbers(spec: IndexSpec) -> None:
    graph = (IndexStructure.AUTO, IndexStructure.HNSW, IndexStructure.IVF_HNSW)
    lists = (IndexStructure.AUTO, IndexStructure.IVF, IndexStructure.IVF_HNSW)
    needs: dict[str, tuple[IndexStructure, ...]] = {
        "hnsw_m": graph,
        "ef_search": graph,
        "lists": lists,
        "probes": lists,
    }
    for name, structures in needs.items():
        if getattr(spec, name) and spec.structure not in structures:
            words = " or ".join(structure.value for structure in structures[1:])
            raise InvalidInput(f"index {name} means nothing for {spec.structure.value}; leave it 0, or choose {words}")
    if spec.pq_segments and spec.quantiser is not Quantiser.PQ:
        raise InvalidInput(f"index pq_segments means nothing for {spec.quantiser.value}; leave it 0, or choose pq")
    if spec.target_recall and spec.is_exact:
        raise InvalidInput(
            "index target_recall means nothing for exact search; leave it 0, or choose another structure"
        )
    if spec.quantiser is not Quantiser.AUTO and spec.structure is IndexStructure.AUTO:
        raise InvalidInput(
            f"index quantiser {spec.quantiser.value} needs a structure: flat, hnsw, ivf or ivf_hnsw; "
            "or leave both to the server"
        )


def _check_quantiser(spec: IndexSpec, dimension: int, metric: Metric) -> None:
    if spec.pq_segments and dimension % spec.pq_segments:
        raise InvalidInput(
            f"index pq_segments ({spec.pq_segments}) must divide the dimension ({dimension}); leave it 0 for a divisor",
            pq_segments=spec.pq_segments,
            dimension=dimension,
        )
    if spec.quantiser is not Quantiser.RABITQ:
        return
    if dimension < RABITQ_MIN_DIMENSION:
        raise InvalidInput(
            f"index quantiser rabitq needs {RABITQ_MIN_DIMENSION} dimensions or more, not {dimension}; choose sq8",
            dimension=dimension,
        )
    if spec.structure is IndexStructure.HNSW and metric is Metric.INNER_PRODUCT:
        raise InvalidInput(
            "an hnsw index with rabitq cannot score by inner_product; choose ivf with rabitq, or hnsw with sq8",
            metric=metric.value,
        )
