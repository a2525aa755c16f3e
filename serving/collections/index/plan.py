"""How a filtered search is answered: by scanning the rows that match, or by asking the graph for more than it needs.

The graph knows nothing of filters. Asked for the nearest L rows of all, it gives the nearest matching ones too, if
enough of those L match: whatever lies nearer than the last of them was seen. Where rows match at random, L = wanted /
share of matches is enough; where they lie elsewhere than the query, too few come back, which shows, and the matches are
scanned. So a filter that goes with the vectors, or against them, may cost time, never recall. Handing the filter to the
graph instead would return rows that its walk only touched, and nothing would tell them from the nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Plan", "plan_filtered"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the base is asked."""

    scan: bool
    """Whether every matching row is scored."""
    candidates: int
    """Rows to ask the graph for otherwise."""


def plan_filtered(
    *, k: int, query_count: int, matching_count: int, row_count: int, scan_ratio: float, widest_share: float
) -> Plan:
    """Chooses between the scan and the graph.

    Args:
        k: Neighbours wanted a query.
        query_count: Queries answered together, at least 1.
        matching_count: Rows of the base that match and live.
        row_count: Rows of the base, at least 1.
        scan_ratio: Rows that are copied together and scored for one query in the time of one candidate of the graph.
        widest_share: Share of the base from which so many candidates cost more than scanning it.

    Returns:
        The plan.
    """
    if matching_count == 0:
        return Plan(scan=True, candidates=0)
    # Three standard deviations above the mean, so that one random filter in hundreds falls back to the scan.
    wanted = k + 3 * math.sqrt(k) + 6
    candidates = math.ceil(wanted * row_count / matching_count)
    # Rows are copied once for all queries; a further query costs an eighth of the first.
    scan_cost = matching_count * (7 + query_count) / 8
    graph_cost = candidates * query_count * scan_ratio
    return Plan(scan=scan_cost <= graph_cost or candidates > widest_share * row_count, candidates=candidates)
