from __future__ import annotations

from collections import Counter

import pytest

from training.corpora.image_items import ImageItem, split_of
from training.corpora.per_class import take_per_class
from training.corpora.splits import Split, SplitFractions

FRACTIONS = SplitFractions(validation=0.1, test=0.2)
ITEMS = [ImageItem(f"{number}", b"", label="abc"[number % 7 % 3]) for number in range(400)]


def counts(items: list[ImageItem], split: Split) -> Counter[str | None]:
    return Counter(item.label for item in items if split_of(item, FRACTIONS) is split)


def test_training_is_balanced_and_what_is_held_out_stays() -> None:
    kept = list(take_per_class(ITEMS, 30, fractions=FRACTIONS))

    assert counts(kept, Split.TRAIN) == {"a": 30, "b": 30, "c": 30}
    for split in (Split.VALIDATION, Split.TEST):
        assert counts(kept, split) == counts(ITEMS, split)
    assert [item for item in ITEMS if item in kept] == kept  # in the order given


def test_the_choice_is_stable_and_grows_with_the_count() -> None:
    few, more, again = (list(take_per_class(ITEMS, count, fractions=FRACTIONS)) for count in (10, 30, 10))
    shuffled = list(take_per_class(ITEMS[::-1], 10, fractions=FRACTIONS))

    assert few == again
    assert {item.id for item in shuffled} == {item.id for item in few}
    assert {item.id for item in few} < {item.id for item in more}
    assert few != list(take_per_class(ITEMS, 10, fractions=FRACTIONS, seed=1))


def test_a_publishers_test_part_is_kept_whole() -> None:
    items = [ImageItem(f"{n}", b"", label="a", split=Split.TEST if n < 50 else Split.TRAIN) for n in range(100)]
    kept = list(take_per_class(items, 5, fractions=FRACTIONS))
    assert counts(kept, Split.TEST) == {"a": 50}
    assert counts(kept, Split.TRAIN) == {"a": 5}


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--train-per-class \(0\) must be >= 1"):
        list(take_per_class(ITEMS, 0, fractions=FRACTIONS))
