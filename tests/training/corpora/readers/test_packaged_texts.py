"""The packaged texts, in small made-up copies of their layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.corpora.document import Document
from training.corpora.readers.packaged_texts import read_moby_dick, read_sotu, read_wiki
from training.corpora.readers.text_files import CorpusError


def article(title: str, extract: str, description: str = "", topic: str = "Uncategorized") -> dict[str, str]:
    return {"title": title, "extract": extract, "description": description, "topic": topic}


def test_wiki_keeps_what_is_known_and_drops_lists_of_meanings(tmp_path: Path) -> None:
    articles = [
        article("Tea", "Tea is a drink. It is hot.", "Hot drink", "Everyday life"),
        article("Mercury", "Mercury may refer to: a planet or a metal."),
        article("0", "0 is a number."),
    ]
    content = json.dumps({entry["title"]: entry for entry in articles})
    (tmp_path / "summaries_en-us.json").write_text(content)
    assert list(read_wiki(tmp_path)) == [
        Document(
            "Tea",
            ("Tea is a drink.", "It is hot."),
            {"title": "Tea", "description": "Hot drink", "topic": "Everyday life"},
        ),
        Document("0", ("0 is a number.",), {"title": "0"}),
    ]


def test_addresses_say_year_president_and_party(tmp_path: Path) -> None:
    (tmp_path / "1862_abraham_lincoln_r.txt").write_text("Fellow citizens. We meet.")
    (tmp_path / "1790_george_washington_n.txt").write_text("I embrace it.")
    washington, lincoln = read_sotu(tmp_path)
    assert washington.attributes == {
        "title": "George Washington, 1790",
        "year": "1790",
        "president": "George Washington",
    }
    assert lincoln == Document(
        "1862_abraham_lincoln_r",
        ("Fellow citizens.", "We meet."),
        {"title": "Abraham Lincoln, 1862", "year": "1862", "president": "Abraham Lincoln", "party": "Republican"},
    )
    (tmp_path / "speech.txt").touch()
    with pytest.raises(CorpusError, match=r"speech\.txt is not named YEAR_PRESIDENT_PARTY"):
        list(read_sotu(tmp_path))


def test_chapters_come_in_the_novels_order_without_their_headings(tmp_path: Path) -> None:
    (tmp_path / "chapter_10.txt").write_text("CHAPTER 10. Ten.\n\nLast. Words.")
    (tmp_path / "chapter_2.txt").write_text("CHAPTER 2. Two.\n\nFirst\nwords.")
    (tmp_path / "data.txt").write_text("All of it.")
    assert list(read_moby_dick(tmp_path)) == [
        Document("chapter_2", ("First words.",), {"title": "CHAPTER 2. Two."}),
        Document("chapter_10", ("Last.", "Words."), {"title": "CHAPTER 10. Ten."}),
    ]
