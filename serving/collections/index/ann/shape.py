"""The shape of an index: written down when it is built, compared when its mapped file is opened.

A base is mapped, not read: its bytes are compared with their checksums only later. What FAISS would follow blindly must
be right before: a graph's links it looks at itself when it opens a file, the numbers in the headers are compared here.
A flipped bit in a stored vector costs recall until it is found, no more.
"""

from __future__ import annotations

from typing import Any

from serving.collections.index.ann.library import faiss

__all__ = ["describe"]

_NUMBERS = ("d", "ntotal", "metric_type", "code_size", "nlist", "by_residual", "qb")


def describe(index: Any) -> dict[str, Any]:
    """Returns the shape of an index, written down when it is built and compared when it is opened.

    Args:
        index: Of any kind.

    Returns:
        What its headers say, as JSON has it.
    """
    # A flat index is read as the kind of its metric, which is compared below.
    shape: dict[str, Any] = {"type": type(index).__name__.removesuffix("L2").removesuffix("IP")}
    shape |= {name: int(getattr(index, name)) for name in _NUMBERS if hasattr(index, name)}
    if hasattr(index, "codes"):
        shape["code_bytes"] = int(index.codes.size())
    if hasattr(index, "sq"):
        shape["scalar"] = [int(index.sq.qtype), int(index.sq.d), int(index.sq.code_size)]
    if hasattr(index, "pq"):
        shape["product"] = [int(index.pq.M), int(index.pq.nbits), int(index.pq.dsub)]
    if hasattr(index, "invlists"):
        shape["list_vectors"] = sum(index.invlists.list_size(number) for number in range(index.nlist))
    for part in ("storage", "quantizer"):
        if hasattr(index, part):
            shape[part] = describe(faiss.downcast_index(getattr(index, part)))
    return shape
