"""Searching an index that is mapped from its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.collections.config import CollectionsConfig
from serving.collections.index.ann.effort import Effort, effort_of
from serving.collections.index.ann.library import bound_threads, faiss
from serving.collections.index.ann.plan import AnnPlan
from serving.collections.index.ann.shape import describe
from serving.collections.index_types import IndexSpec

__all__ = ["Ann"]


_WIDE_LISTS = 4
"""Lists read for each one that the candidates would fill."""


class Ann:
    """An immutable index, mapped from its file; rows of the base are numbered as there.

    Args:
        path: File that `build_ann` wrote.
        plan: What it was built as.
        spec: How hard to search it, where that was asked for.
        config: Search settings.
        shape: What `build_ann` returned.
        scale: Factor by which the vectors were scaled when it was built.

    Raises:
        RuntimeError: The file is no such index, or a link in it leads nowhere.
        ValueError: Its headers are not as they were.
    """

    def __init__(
        self,
        path: Path,
        plan: AnnPlan,
        spec: IndexSpec,
        config: CollectionsConfig,
        *,
        shape: Mapping[str, Any],
        scale: float = 1.0,
    ) -> None:
        flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
        self._index = faiss.read_index(str(path), flags)
        if describe(self._index) != shape:
            raise ValueError(f"{path.name} is not of the shape that was written")
        self._config = config
        self._scale = np.float32(scale)
        self.plan = plan
        """What it is."""
        self.size_bytes = path.stat().st_size
        """Of its file."""
        self.effort = effort_of(plan, spec, config)
        """How hard it searches; replaced whole."""

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def candidates(
        self, queries: NDArray[np.float32], count: int, alive_bits: NDArray[np.uint8] | None, *, is_wide: bool = False
    ) -> list[NDArray[np.int64]]:
        """Returns for each query rows that are probably its nearest.

        Args:
            queries: `[m, d]`.
            count: Rows wanted a query.
            alive_bits: `[ceil(n / 8)]`, one bit a row, least significant first: rows that may be returned; `None`: all.
            is_wide: Whether the caller picks from far more than it needs, so that as many lists are read as hold them.

        Returns:
            Per query row numbers, best first by the index's own, lossy scores: more than `count` where the index is so
            lossy that more must be scored again, fewer where it ran dry.
        """
        bound_threads(self._config.search_threads)
        effort = self.effort
        asked = min(len(self), math.ceil(count * effort.rerank_factor))
        selector = None if alive_bits is None else faiss.IDSelectorBitmap(alive_bits)
        scaled = queries if self._scale == 1 else queries * self._scale
        _, found = self._index.search(scaled, asked, params=self._parameters(effort, asked, selector, is_wide))
        # A damaged list could name a row that there is not.
        return [row[(row >= 0) & (row < len(self))] for row in found]

    def _parameters(self, effort: Effort, asked: int, selector: Any, is_wide: bool) -> Any:
        if effort.ef_search:
            return faiss.SearchParametersHNSW(efSearch=max(effort.ef_search, 2 * asked), sel=selector)
        if not hasattr(self._index, "nprobe"):
            return faiss.SearchParameters(sel=selector)
        probes = max(1, effort.probes)
        if is_wide:
            # The nearest rows of all lie in these lists; how full each one is varies.
            probes = min(self._index.nlist, max(probes, math.ceil(_WIDE_LISTS * asked * self._index.nlist / len(self))))
        if not self.plan.has_graph:
            return faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        coarse = faiss.SearchParametersHNSW(efSearch=max(self._config.ef_search, 2 * probes))
        return faiss.SearchParametersIVF(nprobe=probes, sel=selector, quantizer_params=coarse)
