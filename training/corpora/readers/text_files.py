"""The user's own texts: `.txt` files (one document a file) and `.jsonl` files (one document a line)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.corpora.document import Document
from training.corpora.sentences import split_sentences

__all__ = ["CorpusError", "JsonKeys", "has_texts", "read_texts"]

_PLAIN = frozenset({".txt", ".text"})
_LINES = frozenset({".jsonl", ".ndjson"})


class CorpusError(ValueError):
    """A text that cannot be read; the message names the file, and the line where there are lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonKeys:
    """What the fields of a JSON line are called."""

    id: str = "id"
    """The document's id; file and line number where the line has none."""
    text: str = "text"
    """Running prose, still to be split into sentences."""
    sentences: str = "sentences"
    """A list of sentences that are split already; taken as they are, before `text`."""
    title: str = "title"
    """The document's title, kept as the attribute `title`."""


def has_texts(folder: Path) -> bool:
    """Returns whether a folder holds any file that is named like a text, at any depth.

    Args:
        folder: The folder.

    Returns:
        Whether there is one.
    """
    return any(path.suffix.lower() in _PLAIN | _LINES for path in folder.rglob("*"))


def read_texts(path: Path, keys: JsonKeys | None = None) -> Iterator[Document]:
    """Reads a file, or all text files of a folder at any depth, in the order of their paths.

    Every other field of a JSON line that is a string or a number is kept as an attribute.

    Args:
        path: A `.txt` or `.jsonl` file, or a folder.
        keys: What the fields of a JSON line are called; the defaults of `JsonKeys` where None.

    Yields:
        Documents; ids are paths below `path`, or what the lines say.

    Raises:
        CorpusError: There is nothing to read, or something cannot be read.
    """
    for file in _text_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if file.suffix.lower() in _LINES:
            yield from _read_lines(file, name, keys or JsonKeys())
        else:
            yield Document(name, split_sentences(_read(file)))


def _text_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() not in _PLAIN | _LINES:
            raise CorpusError(f"{path} is no text file; its name must end in {', '.join(sorted(_PLAIN | _LINES))}")
        return [path]
    if not path.is_dir():
        raise CorpusError(f"{path} does not exist")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PLAIN | _LINES and file.is_file())
    if not files:
        raise CorpusError(f"{path} holds no file that ends in {', '.join(sorted(_PLAIN | _LINES))}")
    return files


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not UTF-8 at byte {error.start}; convert it first") from error


def _read_lines(file: Path, name: str, keys: JsonKeys) -> Iterator[Document]:
    # Bytes: a line that is not UTF-8 must be named too, and only "\n" ends a line of JSON.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _document(
                    _parse(line, f"{file} line {number}"), f"{file} line {number}", f"{name}:{number}", keys
                )


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise CorpusError(f"{where} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorpusError(f"{where} is no JSON object but {type(value).__name__}")
    return value


def _document(value: Mapping[str, Any], where: str, default_id: str, keys: JsonKeys) -> Document:
    if keys.sentences in value:
        sentences = _given_sentences(value[keys.sentences], where, keys)
    elif isinstance(value.get(keys.text), str):
        sentences = split_sentences(value[keys.text])
    else:
        raise CorpusError(f"{where} has neither '{keys.text}' nor '{keys.sentences}'; say what its keys are called")
    used = {keys.id, keys.text, keys.sentences, keys.title}
    attributes = {
        key: str(field)
        for key, field in value.items()
        if key not in used and isinstance(field, str | int | float) and not isinstance(field, bool)
    }
    if isinstance(value.get(keys.title), str):
        attributes["title"] = value[keys.title]
    return Document(str(value.get(keys.id, default_id)), sentences, attributes)


def _given_sentences(found: object, where: str, keys: JsonKeys) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(sentence, str) for sentence in found):
        raise CorpusError(f"{where}: '{keys.sentences}' must be a list of strings")
    return tuple(sentence.strip() for sentence in found if sentence.strip())
