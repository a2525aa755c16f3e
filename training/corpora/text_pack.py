"""A text pack: documents split into sentences once, divided once, read from disk as they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from training.corpora.document import Document
from training.corpora.lines import LineReader, LineWriter
from training.corpora.pack_manifest import read_manifest, write_manifest
from training.corpora.sentences import splitter_identity
from training.corpora.splits import Split, SplitFractions, assign_split
from training.publish import publish_folder, staging_folder

__all__ = ["TextPack", "write_text_pack"]

_DOCUMENTS = "documents.jsonl"
_SPLITS = "splits.npy"
_SPLIT_CODES = tuple(Split)


class TextPack:
    """An opened text pack; made by `write_text_pack`, opened by `TextPack.open`.

    Args:
        path: The folder.
        verify: Whether all bytes are hashed.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        manifest = read_manifest(path, "text", verify=verify)
        self.path = path
        """The folder."""
        self.fingerprint: str = manifest["fingerprint"]
        """Equal for equal documents, sentences and division."""
        self.document_count: int = manifest["documents"]
        """Documents in all parts."""
        self.sentence_count: int = manifest["sentences"]
        """Sentences in all parts."""
        self._lines = LineReader(path / _DOCUMENTS)
        self._split_codes = np.load(path / _SPLITS)  # [n] uint8

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> TextPack:
        """Opens a pack, checked against its own hashes.

        Args:
            path: The folder.
            verify: Whether all bytes are hashed; sizes are always compared.

        Returns:
            The pack.
        """
        return cls(Path(path), verify=verify)

    def documents(self, split: Split | None = None) -> Sequence[Document]:
        """Returns the documents of a part, in the order they were packed; each is read when it is asked for.

        Args:
            split: The part; all of them where None.

        Returns:
            The documents.
        """
        if split is None:
            return _Documents(self._lines, np.arange(self.document_count))
        return _Documents(self._lines, np.flatnonzero(self._split_codes == _SPLIT_CODES.index(split)))


class _Documents(Sequence[Document]):
    """Some lines of a pack, seen as documents."""

    def __init__(self, lines: LineReader, numbers: NDArray[np.int64]) -> None:
        self._lines = lines
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | Sequence[Document]:
        if isinstance(place, slice):
            return _Documents(self._lines, self._numbers[place])
        line = self._lines[int(self._numbers[place])]
        return Document(line["id"], tuple(line["sentences"]), line["attributes"])


def write_text_pack(
    documents: Iterable[Document],
    destination: Path,
    *,
    source: str,
    fractions: SplitFractions = SplitFractions(),  # noqa: B008 - frozen
    seed: int = 0,
) -> TextPack:
    """Packs documents into a folder, each wholly in one part; the folder appears when it is complete.

    Args:
        documents: Read once, one at a time; those without a sentence are left out and counted.
        destination: The folder to make.
        source: Where they come from, for the record.
        fractions: How much is held out.
        seed: Of the division, which is a hash of each document's id.

    Returns:
        The pack.

    Raises:
        ValueError: The destination exists, two documents have one id, or there is nothing to train on.
    """
    with staging_folder(destination) as staging:
        described = _write(documents, staging, fractions, seed)
        if not described["splits"]["train"]:
            raise ValueError(
                f"{source} has {described['documents']} documents with sentences, none of them for training; "
                "give more documents or hold out less"
            )
        how = {"splitter": splitter_identity(), "fractions": asdict(fractions), "seed": seed}
        write_manifest(staging, "text", provenance={"source": source}, described=how | described)
        publish_folder(staging, destination)
    return TextPack.open(destination, verify=False)


def _write(documents: Iterable[Document], folder: Path, fractions: SplitFractions, seed: int) -> dict[str, Any]:
    """Writes the documents and returns what the manifest says of them."""
    seen: set[str] = set()
    codes = bytearray()
    sentences, empty = 0, 0
    with closing(LineWriter(folder / _DOCUMENTS)) as lines:
        for document in documents:
            if document.id in seen:
                raise ValueError(f"two documents have the id '{document.id}'; ids must be unique")
            seen.add(document.id)
            if not document.sentences:
                empty += 1
                continue
            sentences += len(document.sentences)
            codes.append(_SPLIT_CODES.index(assign_split(document.id, fractions, seed)))
            attributes = dict(document.attributes)
            lines.append({"id": document.id, "sentences": document.sentences, "attributes": attributes})
        lines.finish()
    np.save(folder / _SPLITS, np.frombuffer(bytes(codes), dtype=np.uint8))
    counts = Counter(codes)
    return {
        "documents": len(codes),
        "sentences": sentences,
        "empty_documents": empty,
        "splits": {split.value: counts[code] for code, split in enumerate(_SPLIT_CODES)},
    }
