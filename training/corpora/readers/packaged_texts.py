"""The packaged texts as documents: Wikipedia leads, State of the Union addresses, Moby Dick."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from training.corpora.document import Document
from training.corpora.readers.text_files import CorpusError
from training.corpora.sentences import split_sentences

__all__ = ["TEXT_READERS", "read_moby_dick", "read_sotu", "read_wiki"]

_PARTIES: Final = {
    "d": "Democratic",
    "dr": "Democratic-Republican",
    "f": "Federalist",
    "nu": "National Union",
    "r": "Republican",
    "w": "Whig",
    "wd": "Whig and Democratic",
}


def read_wiki(folder: Path) -> Iterator[Document]:
    """Reads the leads of Wikipedia articles.

    Left out are the leads that enumerate meanings ("may refer to") instead of telling something.

    Args:
        folder: What `fetch("wiki")` returned.

    Yields:
        One document an article, its title the id; attributes `title`, and where there are any `description` and
        `topic` (eleven of them).
    """
    articles = json.loads((folder / "summaries_en-us.json").read_text(encoding="utf-8"))
    for title, article in articles.items():
        if "may refer to" in article["extract"]:
            continue
        attributes = {"title": article["title"]}
        if article["description"]:
            attributes["description"] = article["description"]
        if article["topic"] != "Uncategorized":
            attributes["topic"] = article["topic"]
        yield Document(title, split_sentences(article["extract"]), attributes)


def read_sotu(folder: Path) -> Iterator[Document]:
    """Reads the State of the Union addresses.

    Args:
        folder: What `fetch("sotu")` returned.

    Yields:
        One document an address; attributes `title`, `year`, `president`, and `party` where there is one.

    Raises:
        CorpusError: A file's name does not say year, president and party.
    """
    for file in sorted(folder.glob("*.txt")):
        # As `1862_abraham_lincoln_r.txt`.
        words = file.stem.split("_")
        if len(words) < 3 or not words[0].isdigit():
            raise CorpusError(f"{file} is not named YEAR_PRESIDENT_PARTY.txt")
        president = " ".join(words[1:-1]).title()
        attributes = {"title": f"{president}, {words[0]}", "year": words[0], "president": president}
        if words[-1] in _PARTIES:
            attributes["party"] = _PARTIES[words[-1]]
        yield Document(file.stem, split_sentences(file.read_text(encoding="utf-8")), attributes)


def read_moby_dick(folder: Path) -> Iterator[Document]:
    """Reads the chapters of Moby Dick.

    Args:
        folder: What `fetch("moby-dick")` returned.

    Yields:
        One document a chapter, without its heading; attribute `title`.
    """
    for file in sorted(folder.glob("chapter_*.txt"), key=_chapter_number):
        # The heading, `CHAPTER 1. Loomings.`, is a paragraph of its own.
        heading, _, prose = file.read_text(encoding="utf-8").lstrip().partition("\n\n")
        title = " ".join(heading.split())
        yield Document(file.stem, split_sentences(prose), {"title": title})


def _chapter_number(file: Path) -> tuple[int, str]:
    digits = "".join(character for character in file.stem if character.isdigit())
    return (int(digits) if digits else 0, file.stem)


TEXT_READERS: Final[dict[str, Callable[[Path], Iterator[Document]]]] = {
    "wiki": read_wiki,
    "sotu": read_sotu,
    "moby-dick": read_moby_dick,
}
"""By the name of the packaged set."""
