"""The user's own texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.corpora.document import Document
from training.corpora.readers.text_files import CorpusError, JsonKeys, read_texts


def write_lines(file: Path, *values: object) -> Path:
    file.write_text("\n".join(json.dumps(value) for value in values) + "\n", encoding="utf-8")
    return file


def test_a_folder_of_any_depth_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep.TXT").write_text("Two. Three.")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne.")
    (tmp_path / "notes.pdf").write_bytes(b"no text")
    assert list(read_texts(tmp_path)) == [Document("a.txt", ("One.",)), Document("b/deep.TXT", ("Two.", "Three."))]


def test_json_lines_give_text_title_and_attributes(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        {"id": 7, "title": "T", "text": "One. Two.", "year": 1999, "score": 0.5, "tags": ["x"], "good": True},
        {"text": "Three."},
    )
    assert list(read_texts(file)) == [
        Document("7", ("One.", "Two."), {"title": "T", "year": "1999", "score": "0.5"}),
        Document("a.jsonl:2", ("Three.",)),
    ]


def test_sentences_that_are_split_already_are_taken_as_they_are(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"sentences": ["One. Still one.", "  ", " Two "], "text": "ignored."})
    assert [document.sentences for document in read_texts(file)] == [("One. Still one.", "Two")]


def test_keys_can_be_named(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"key": "k", "body": "One.", "name": "N"}, {"key": "l", "parts": ["P"]})
    keys = JsonKeys(id="key", text="body", sentences="parts", title="name")
    assert list(read_texts(file, keys)) == [Document("k", ("One.",), {"title": "N"}), Document("l", ("P",))]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "One."}\n\n   \n{"text": "Two."}\n')
    assert [document.id for document in read_texts(file)] == ["a.jsonl:1", "a.jsonl:4"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"text": "One."', r"a\.jsonl line 2 is no JSON: Expecting ',' delimiter"),
        (b'{"text": "\xff"}', r"a\.jsonl line 2 is no JSON: 'utf-8' codec can't decode"),
        (b"[1]", r"a\.jsonl line 2 is no JSON object but list"),
        (b'{"body": "One."}', r"a\.jsonl line 2 has neither 'text' nor 'sentences'"),
        (b'{"text": 5}', r"a\.jsonl line 2 has neither 'text' nor 'sentences'"),
        (b'{"sentences": "One."}', r"a\.jsonl line 2: 'sentences' must be a list of strings"),
        (b'{"sentences": ["One.", 2]}', r"a\.jsonl line 2: 'sentences' must be a list of strings"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: bytes, complaint: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "Good."}\n' + line + b"\n")
    with pytest.raises(CorpusError, match=complaint):
        list(read_texts(file))


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes((0x6F, 0x6E, 0x65, 0xE9)))
    with pytest.raises(CorpusError, match=r"a\.txt is not UTF-8 at byte 3"):
        list(read_texts(tmp_path))


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no file that ends in"):
        list(read_texts(tmp_path))
    with pytest.raises(CorpusError, match="does not exist"):
        list(read_texts(tmp_path / "gone"))
    (tmp_path / "a.pdf").touch()
    with pytest.raises(CorpusError, match="is no text file"):
        list(read_texts(tmp_path / "a.pdf"))
