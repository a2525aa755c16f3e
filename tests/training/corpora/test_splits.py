"""Parts are a stable function of the key."""

from __future__ import annotations

from collections import Counter

import pytest

from training.corpora.splits import Split, SplitFractions, assign_split

HALF = SplitFractions(validation=0.25, test=0.25)


def test_an_item_never_changes_sides_between_versions() -> None:
    # Written down once: other values here would put yesterday's test documents into today's training.
    found = [assign_split(key, HALF).value for key in ("Beowulf", "0", "Tea", "Tax", "Δ")]
    assert found == ["validation", "train", "validation", "train", "train"]
    assert assign_split("Beowulf", HALF, seed=1) is Split.TEST


def test_the_shares_are_what_was_asked_for() -> None:
    fractions = SplitFractions(validation=0.05, test=0.1)
    counts = Counter(assign_split(f"document {number}", fractions) for number in range(20_000))
    assert counts[Split.TEST] == pytest.approx(2_000, abs=150)
    assert counts[Split.VALIDATION] == pytest.approx(1_000, abs=120)


def test_holding_out_more_for_validation_takes_nothing_from_test() -> None:
    keys = [f"document {number}" for number in range(500)]
    before = {key for key in keys if assign_split(key, SplitFractions(validation=0.1, test=0.1)) is Split.TEST}
    after = {key for key in keys if assign_split(key, SplitFractions(validation=0.3, test=0.1)) is Split.TEST}
    assert before == after


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.0, 1.0)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(ValueError, match=r"must be >= 0 and leave more than 0 for training"):
        SplitFractions(validation=validation, test=test)
