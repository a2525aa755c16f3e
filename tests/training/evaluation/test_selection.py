from __future__ import annotations

import io

import pytest
from rich.console import Console

from training.corpora.splits import Split
from training.evaluation.evaluated import Evaluated
from training.evaluation.results import Result
from training.evaluation.selection import check_selection, rank_candidates, selection_table


def figures(name: str, *, width: int = 256, **values: float) -> Evaluated:
    rows = [
        Result(
            subject=name,
            subject_fingerprint=name,
            data="d",
            data_fingerprint="d",
            split="validation",
            task="geometry",
            metric=metric,
            layer="embedding",
            parameters={"width": width} if metric == "rankme" else {},
            n_gallery=0,
            n_query=100,
            value=value,
        )
        for metric, value in values.items()
    ]
    return Evaluated(rows, [])


def test_lidar_ranks_where_all_have_it_and_rankme_otherwise() -> None:
    one, other = figures("one", rankme=50, lidar=20), figures("other", rankme=40, lidar=30)

    assert [candidate.name for candidate in rank_candidates([one, other])[1]] == ["other", "one"]
    criterion, ranked = rank_candidates([one, figures("other", rankme=60)])
    assert (criterion, [candidate.name for candidate in ranked]) == ("rankme", ["other", "one"])
    with pytest.raises(ValueError, match="fewer items than the vectors have dimensions"):
        rank_candidates([one, figures("bare", uniformity=-1)])


def test_what_would_mean_nothing_is_refused() -> None:
    check_selection(Split.VALIDATION)
    with pytest.raises(ValueError, match="cannot be published"):
        check_selection(Split.TEST)
    with pytest.raises(ValueError, match="one 256, other 512"):
        rank_candidates([figures("one", rankme=50), figures("other", rankme=60, width=512)])


def test_the_table_leads_with_the_criterion() -> None:
    screen = io.StringIO()
    Console(width=80, file=screen).print(selection_table(*rank_candidates([figures("one", rankme=50, lidar=20)])))
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("without labels, by lidar")
    assert lines[2].split() == ["encoder", "lidar", "rankme"]
