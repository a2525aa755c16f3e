"""Emoji: three drawings of a concept, and which concepts give each other away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.corpora.readers.emoji import concept_group, read_emoji


@pytest.mark.parametrize(
    "variants",
    [
        ("1F468-200D-1F33E", "1F469-200D-1F33E", "1F9D1-200D-1F33E"),  # farmers
        ("1F3C3-200D-2640-FE0F", "1F3C3-200D-2642-FE0F", "1F3C3"),  # runners
        ("26F9-FE0F-200D-2640-FE0F", "26F9-FE0F"),  # bouncing ball
        ("1F468", "1F469", "1F9D1"),
        ("1F474", "1F475", "1F9D3"),
        ("1F934", "1F478", "1FAC5"),  # crowned
        ("1F385", "1F936", "1F9D1-200D-1F384"),  # Santa and the others
        ("1F57A", "1F483"),  # dancing
        ("1F930", "1FAC3", "1FAC4"),  # pregnant
    ],
)
def test_gender_variants_are_one_group(variants: tuple[str, ...]) -> None:
    assert len({concept_group(variant) for variant in variants}) == 1


def test_other_concepts_stay_apart() -> None:
    apart = ["1F9D1-200D-1F33E", "1F9D1-200D-1F373", "1F3C3", "1F468", "1F466", "2764-FE0F", "2640-FE0F", "2642-FE0F"]
    assert len({concept_group(code) for code in apart}) == len(apart)


def test_couples_and_families_are_three_groups() -> None:
    groups = {
        "kiss": ["1F48F", "1F469-200D-2764-FE0F-200D-1F48B-200D-1F468"],
        "couple with heart": ["1F491", "1F468-200D-2764-FE0F-200D-1F468"],
        "family": ["1F46A", "1F468-200D-1F469-200D-1F466-200D-1F466", "1F469-200D-1F467"],
        "holding hands": ["1F46B", "1F46C", "1F9D1-200D-1F91D-200D-1F9D1"],
    }
    for name, codes in groups.items():
        assert {concept_group(code, "family") for code in codes} == {name}


def concept(unified: str, order: int, category: str = "Objects", non_qualified: str | None = None) -> dict[str, object]:
    return {
        "name": f"THING {order}",
        "unified": unified,
        "non_qualified": non_qualified,
        "image": f"{unified.lower()}.png",
        "category": category,
        "subcategory": "thing",
        "sort_order": order,
        "skin_variations": {"1F3FB": {"image": "skin.png"}},
    }


def test_only_concepts_that_all_have_drawn_and_no_flags(tmp_path: Path) -> None:
    concepts = [
        concept("1F600", 5),
        concept("2764-FE0F", 2, non_qualified="2764"),  # Fluent's file has no -fe0f
        concept("0033-FE0F-20E3", 3, non_qualified="0033-20E3"),  # Fluent's file has it
        concept("1F1E6", 1, category="Flags"),
        concept("1F9FF", 4),  # Fluent has not drawn it
    ]
    (tmp_path / "emoji.json").write_text(json.dumps(concepts))
    for vendor in ("google", "twitter"):
        folder = tmp_path / "img" / vendor / "64"
        folder.mkdir(parents=True)
        for entry in concepts:
            (folder / str(entry["image"])).touch()
    fluent = tmp_path / "img" / "fluent" / "256"
    fluent.mkdir(parents=True)
    for name in ("1f600", "2764", "0033-fe0f-20e3", "1f1e6"):
        (fluent / f"{name}.webp").touch()
    items = list(read_emoji(tmp_path))
    assert [item.id for item in items] == [
        f"{vendor}/{code}"
        for code in ("2764-fe0f", "0033-fe0f-20e3", "1f600")
        for vendor in ("noto", "twemoji", "fluent")
    ]
    assert items[2].content == fluent / "2764.webp"
    assert items[1].content == tmp_path / "img" / "twitter" / "64" / "2764-fe0f.png"
    assert (items[8].label, items[8].group) == ("Objects", "1f600")
    assert items[8].attributes == {
        "vendor": "fluent",
        "concept": "1f600",
        "name": "thing 5",
        "subcategory": "thing",
    }
