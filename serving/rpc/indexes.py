"""Indexes as the wire has them."""

from __future__ import annotations

from diptych.v1 import collection_pb2
from serving.collections.index_types import IndexSpec, IndexStatus, IndexStructure, Quantiser
from serving.errors import InvalidInput
from serving.rpc.enums import index_kind_from_wire

__all__ = ["index_from_wire", "index_status_to_wire", "index_to_wire"]

STRUCTURE_TO_WIRE = {
    IndexStructure.AUTO: collection_pb2.INDEX_STRUCTURE_AUTO,
    IndexStructure.FLAT: collection_pb2.INDEX_STRUCTURE_FLAT,
    IndexStructure.HNSW: collection_pb2.INDEX_STRUCTURE_HNSW,
    IndexStructure.IVF: collection_pb2.INDEX_STRUCTURE_IVF,
    IndexStructure.IVF_HNSW: collection_pb2.INDEX_STRUCTURE_IVF_HNSW,
}
QUANTISER_TO_WIRE = {
    Quantiser.AUTO: collection_pb2.QUANTISER_AUTO,
    Quantiser.FLOAT32: collection_pb2.QUANTISER_FLOAT32,
    Quantiser.FP16: collection_pb2.QUANTISER_FP16,
    Quantiser.SQ8: collection_pb2.QUANTISER_SQ8,
    Quantiser.PQ: collection_pb2.QUANTISER_PQ,
    Quantiser.RABITQ: collection_pb2.QUANTISER_RABITQ,
}
STRUCTURE_FROM_WIRE = {wire: structure for structure, wire in STRUCTURE_TO_WIRE.items()}
QUANTISER_FROM_WIRE = {wire: quantiser for quantiser, wire in QUANTISER_TO_WIRE.items()}
NUMBERS = (
    "hnsw_m",
    "lists",
    "pq_segments",
    "ef_search",
    "probes",
    "rerank_factor",
    "memory_budget_bytes",
    "target_recall",
)
"""Fields of the same name and meaning on both sides."""


def index_from_wire(message: collection_pb2.Collection) -> IndexSpec:
    """Reads which index a collection shall have.

    Args:
        message: As sent; where it has no `index`, its `index_kind` says.

    Returns:
        The specification, not checked yet.

    Raises:
        InvalidInput: A number of an enum that this server does not know.
    """
    if not message.HasField("index"):
        return IndexSpec.of_kind(index_kind_from_wire(message.index_kind))
    wanted = message.index
    structure = STRUCTURE_FROM_WIRE.get(wanted.structure or collection_pb2.INDEX_STRUCTURE_AUTO)
    quantiser = QUANTISER_FROM_WIRE.get(wanted.quantiser or collection_pb2.QUANTISER_AUTO)
    if structure is None:
        raise InvalidInput(f"index structure ({wanted.structure}) is none that this server knows")
    if quantiser is None:
        raise InvalidInput(f"index quantiser ({wanted.quantiser}) is none that this server knows")
    return IndexSpec(structure=structure, quantiser=quantiser, **{name: getattr(wanted, name) for name in NUMBERS})


def index_to_wire(spec: IndexSpec) -> collection_pb2.IndexSpecification:
    """Writes which index a collection is asked to have.

    Args:
        spec: The specification.

    Returns:
        The message.
    """
    return collection_pb2.IndexSpecification(
        structure=STRUCTURE_TO_WIRE[spec.structure],
        quantiser=QUANTISER_TO_WIRE[spec.quantiser],
        **{name: getattr(spec, name) for name in NUMBERS},
    )


def index_status_to_wire(status: IndexStatus) -> collection_pb2.IndexStatus:
    """Writes an index as it stands.

    Args:
        status: The index.

    Returns:
        The message.
    """
    recall = status.recall
    return collection_pb2.IndexStatus(
        active=status.active,
        reason=status.reason,
        bytes_per_vector=status.bytes_per_vector,
        build_progress=status.build_progress,
        indexed_count=status.indexed_count,
        tail_count=status.tail_count,
        ef_search=status.ef_search,
        probes=status.probes,
        rerank_factor=status.rerank_factor,
        recall=None
        if recall is None
        else collection_pb2.RecallEstimate(
            recall=recall.recall, low=recall.low, high=recall.high, query_count=recall.query_count
        ),
    )
