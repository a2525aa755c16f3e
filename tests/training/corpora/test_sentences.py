"""Where sentences end."""

from __future__ import annotations

import pytest

from training.corpora.sentences import split_sentences, splitter_identity


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ()),
        (" \n\t ", ()),
        ("No full stop", ("No full stop",)),
        ("Is it? It is! Good.", ("Is it?", "It is!", "Good.")),
        ("Mr. Smith met Dr. Jones. They spoke.", ("Mr. Smith met Dr. Jones.", "They spoke.")),
        ("It lies in the U.S. In Oceania, Guam does.", ("It lies in the U.S.", "In Oceania, Guam does.")),
        ("The U.S. state is large.", ("The U.S. state is large.",)),
        ("It dates from c. 3800 BC. Later it fell.", ("It dates from c. 3800 BC.", "Later it fell.")),
        ("Symphony No. 41 is loved, e.g. by me.", ("Symphony No. 41 is loved, e.g. by me.",)),
        ("It cost 3.5 million. He paid.", ("It cost 3.5 million.", "He paid.")),
        ("A. A. Milne wrote it. E. H. Barnes drew.", ("A. A. Milne wrote it.", "E. H. Barnes drew.")),
        ('He said "Stop." Then he left.', ('He said "Stop."', "Then he left.")),
        ("It is red, blue etc. There are more.", ("It is red, blue etc.", "There are more.")),
    ],
)
def test_sentences_end_where_people_say(text: str, sentences: tuple[str, ...]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("word", ["south", "century", "hand", "art", "civilization"])
def test_ordinary_words_end_sentences(word: str) -> None:
    # The library's own list of abbreviations holds these.
    assert split_sentences(f"It was the {word}. Its end came.") == (f"It was the {word}.", "Its end came.")


def test_a_line_break_ends_no_sentence_and_a_blank_line_does() -> None:
    text = "A long line\nis wrapped. And\r\ngoes on.\r\n\r\nA Heading\n  \nThe end"
    assert split_sentences(text) == ("A long line is wrapped.", "And goes on.", "A Heading", "The end")


def test_an_unclosed_quotation_swallows_nothing() -> None:
    text = '"It begins here. ' + "Then it goes on. " * 50
    assert len(split_sentences(text)) == 51


def test_no_character_but_white_space_is_lost() -> None:
    text = "Ünïcode — “quoted”… Yes!? (No.) 3.14; 日本語です。Ends\u00a0here.\n\nNext."
    joined = "".join(split_sentences(text))
    assert "".join(joined.split()) == "".join(text.split())


def test_the_pinned_version_decides() -> None:
    assert splitter_identity() == "nupunkt 0.8.0"
