"""Emoji that three vendors have drawn: 1,599 concepts in Noto, Twemoji and Fluent each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from training.corpora.image_items import ImageItem

__all__ = ["VENDORS", "concept_group", "read_emoji"]

VENDORS: Final = ("noto", "twemoji", "fluent")
"""Who drew, as the attribute `vendor` says it."""

_EMOJI_STYLE: Final = "fe0f"
_JOINER: Final = "200d"
_GENDER_SIGNS: Final = frozenset({"2640", "2642"})
# Man, woman and person; boy, girl and child; the old: what is drawn alike but for the gender.
_NEUTRAL: Final = {
    **dict.fromkeys(("1f468", "1f469"), "1f9d1"),
    **dict.fromkeys(("1f466", "1f467"), "1f9d2"),
    **dict.fromkeys(("1f474", "1f475"), "1f9d3"),
}
# Single code points that are each other's gender variants.
_PAIRS: Final = {
    **dict.fromkeys(("1f934", "1f478", "1fac5"), "crowned"),
    **dict.fromkeys(("1f385", "1f936", "1f9d1-1f384"), "christmas"),
    **dict.fromkeys(("1f57a", "1f483"), "dancing"),
    **dict.fromkeys(("1f930", "1fac3", "1fac4"), "pregnant"),
    **dict.fromkeys(("1f931", "1f9d1-1f37c"), "feeding"),
    **dict.fromkeys(("1f46b", "1f46c", "1f46d", "1f9d1-1f91d-1f9d1"), "holding hands"),
}
_KISS: Final = frozenset({"1f48f", "1f48b"})
_HEART: Final = frozenset({"1f491", "2764"})


def read_emoji(folder: Path) -> Iterator[ImageItem]:
    """Reads the drawings of all concepts that each vendor has; no flags, no skin tones.

    Args:
        folder: What `fetch("emoji")` returned.

    Yields:
        Items in the order of the emoji list, a concept's three drawings together; label is the category, group the
        concept with its gender variants; attributes `vendor`, `concept` (its code points), `name`, `subcategory`.
    """
    concepts = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    fluent = {file.stem for file in (folder / "img" / "fluent" / "256").iterdir()}
    for concept in sorted(concepts, key=lambda one: one["sort_order"]):
        if concept["category"] == "Flags":
            continue
        third = _fluent_name(concept, fluent)
        files = {
            "noto": folder / "img" / "google" / "64" / concept["image"],
            "twemoji": folder / "img" / "twitter" / "64" / concept["image"],
            "fluent": folder / "img" / "fluent" / "256" / f"{third}.webp",
        }
        if third is not None and all(file.is_file() for file in files.values()):
            for vendor in VENDORS:
                yield _item(concept, vendor, files[vendor])


def concept_group(unified: str, subcategory: str = "") -> str:
    """Returns what a concept has in common with its gender variants.

    Args:
        unified: Its code points in hexadecimal, joined by `-`.
        subcategory: As the emoji list says; all families are one group.

    Returns:
        A name for the group: equal for `man farmer` and `woman farmer`.
    """
    points = [point for point in unified.lower().split("-") if point not in {_EMOJI_STYLE, _JOINER}]
    neutral = [_NEUTRAL.get(point, point) for point in points if point not in _GENDER_SIGNS or len(points) == 1]
    key = "-".join(neutral)
    if key in _PAIRS:
        return _PAIRS[key]
    if subcategory != "family":
        return key
    # Couples and families differ only in who they are.
    return "kiss" if _KISS & set(points) else "couple with heart" if _HEART & set(points) else "family"


def _item(concept: Mapping[str, Any], vendor: str, file: Path) -> ImageItem:
    code = concept["unified"].lower()
    attributes = {
        "vendor": vendor,
        "concept": code,
        "name": concept["name"].lower(),
        "subcategory": concept["subcategory"],
    }
    group = concept_group(code, concept["subcategory"])
    return ImageItem(f"{vendor}/{code}", file, label=concept["category"], group=group, attributes=attributes)


def _fluent_name(concept: Mapping[str, Any], known: set[str]) -> str | None:
    """Finds the drawing: vendors disagree on whether a file's name says `fe0f`."""
    unified = concept["unified"].lower()
    candidates = (unified, (concept["non_qualified"] or "").lower(), unified.replace(f"-{_EMOJI_STYLE}", ""))
    return next((name for name in candidates if name in known), None)
