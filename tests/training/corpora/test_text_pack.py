"""Text packs: what goes in comes out, and what was altered is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.corpora.document import Document
from training.corpora.pack_manifest import PackError
from training.corpora.splits import Split, SplitFractions, assign_split
from training.corpora.text_pack import TextPack, write_text_pack

HALF = SplitFractions(validation=0.25, test=0.25)
DOCUMENTS = [
    Document(f"d{number}", tuple(f"Sentence {number}.{place} ünï" for place in range(number % 4 + 1)), {"topic": "é"})
    for number in range(40)
]


@pytest.fixture
def pack(tmp_path: Path) -> TextPack:
    return write_text_pack(DOCUMENTS, tmp_path / "pack", source="forty", fractions=HALF)


def test_documents_come_back_in_order(pack: TextPack) -> None:
    assert list(pack.documents()) == DOCUMENTS
    assert pack.document_count == 40
    assert pack.sentence_count == 100


def test_each_document_is_in_the_part_its_id_says(pack: TextPack) -> None:
    for split in Split:
        expected = [document for document in DOCUMENTS if assign_split(document.id, HALF) is split]
        assert list(pack.documents(split)) == expected
        assert expected


def test_documents_are_a_sequence(pack: TextPack) -> None:
    documents = pack.documents()
    assert documents[-1] == DOCUMENTS[-1]
    assert list(documents[5:9]) == DOCUMENTS[5:9]
    with pytest.raises(IndexError):
        documents[40]


def test_the_manifest_says_how_it_was_made(pack: TextPack) -> None:
    manifest = json.loads((pack.path / "pack.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["provenance"] == {"source": "forty"}
    assert manifest["splitter"] == "nupunkt 0.8.0"
    assert sum(manifest["splits"].values()) == 40


def test_the_fingerprint_follows_the_data_and_not_its_place(tmp_path: Path, pack: TextPack) -> None:
    same = write_text_pack(DOCUMENTS, tmp_path / "same", source="elsewhere", fractions=HALF)
    assert same.fingerprint == pack.fingerprint
    assert TextPack.open(pack.path).fingerprint == pack.fingerprint
    other_seed = write_text_pack(DOCUMENTS, tmp_path / "seed", source="forty", fractions=HALF, seed=1)
    fewer = write_text_pack(DOCUMENTS[1:], tmp_path / "fewer", source="forty", fractions=HALF)
    assert len({pack.fingerprint, other_seed.fingerprint, fewer.fingerprint}) == 3


def test_documents_without_sentences_are_left_out_and_counted(tmp_path: Path) -> None:
    pack = write_text_pack([*DOCUMENTS, Document("empty", ())], tmp_path / "pack", source="x")
    assert pack.document_count == 40
    assert json.loads((pack.path / "pack.json").read_text())["empty_documents"] == 1


def test_two_documents_of_one_id_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two documents have the id 'd3'"):
        write_text_pack([*DOCUMENTS, DOCUMENTS[3]], tmp_path / "pack", source="x")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 documents with sentences, none of them for training"):
        write_text_pack([Document("empty", ())], tmp_path / "pack", source="x")


def test_documents_are_read_one_at_a_time(tmp_path: Path) -> None:
    written: list[int] = []

    def stream() -> Iterator[Document]:
        for document in DOCUMENTS:
            yield document
            files = list(tmp_path.glob(".pack.*/documents.jsonl"))
            written.append(len(files))

    write_text_pack(stream(), tmp_path / "pack", source="x")
    assert written == [1] * 40


def test_a_flipped_byte_is_refused(pack: TextPack) -> None:
    file = pack.path / "documents.jsonl"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    with pytest.raises(PackError, match=r"documents\.jsonl was altered since it was packed"):
        TextPack.open(pack.path)


def test_a_truncated_file_is_refused_even_unverified(pack: TextPack) -> None:
    file = pack.path / "documents.jsonl"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(PackError, match=r"has [\d,]+ bytes, not [\d,]+: the pack is damaged"):
        TextPack.open(pack.path, verify=False)


def test_a_missing_file_is_named(pack: TextPack) -> None:
    (pack.path / "splits.npy").unlink()
    with pytest.raises(PackError, match=r"splits\.npy is missing"):
        TextPack.open(pack.path)


def test_what_is_no_pack_is_refused_with_a_remedy(tmp_path: Path, pack: TextPack) -> None:
    with pytest.raises(PackError, match=r"is no pack .* make one with: diptych data pack"):
        TextPack.open(tmp_path)
    manifest = pack.path / "pack.json"
    described = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**described, "schema_version": 2}))
    with pytest.raises(PackError, match="has pack schema 2, this version reads 1"):
        TextPack.open(pack.path)
    manifest.write_text(json.dumps({**described, "kind": "image"}))
    with pytest.raises(PackError, match="of kind image, where one of kind text is needed"):
        TextPack.open(pack.path)
    manifest.write_text("{")
    with pytest.raises(PackError, match=r"pack\.json cannot be read"):
        TextPack.open(pack.path)
