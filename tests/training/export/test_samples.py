"""Where an export's real inputs come from, and that those calibrated on are not measured on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundle.encoder import Modality
from training.corpora.document import Document
from training.corpora.splits import Split, SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack
from training.export.samples import divide_inputs, read_calibration, read_inputs


def write_lines(path: Path, count: int) -> Path:
    path.write_text("".join(f"line {number}\n\n" for number in range(count)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = (Document(f"d{number}", (f"first of {number}.", f"second of {number}."), {}) for number in range(400))
    path = tmp_path_factory.mktemp("pack") / "notes"
    write_text_pack(documents, path, source="test", fractions=SplitFractions(validation=0.4, test=0.3))
    return path


def sentences(pack: Path, split: Split) -> set[str | bytes]:
    return {sentence for document in TextPack.open(pack).documents(split) for sentence in document.sentences}


def test_a_file_is_divided_and_nothing_is_in_both(tmp_path: Path) -> None:
    calibration, measured = divide_inputs(write_lines(tmp_path / "lines.txt", 200), Modality.TEXT)
    assert (len(calibration.items), len(measured.items)) == (50, 150)
    assert set(calibration.items) | set(measured.items) == {f"line {number}" for number in range(200)}
    assert calibration.source == "lines.txt"
    assert list(calibration.items) != [f"line {number}" for number in range(50)]  # drawn from the whole file


def test_a_large_file_gives_a_bounded_sample_of_all_of_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "lines.txt", 5_000)
    calibration, measured = divide_inputs(path, Modality.TEXT)
    assert (len(calibration.items), len(measured.items)) == (128, 1_000)
    assert not set(calibration.items) & set(measured.items)
    places = np.array([int(str(item).removeprefix("line ")) for item in measured.items])
    assert 2_200 < places.mean() < 2_800
    assert divide_inputs(path, Modality.TEXT) == (calibration, measured)


def test_copies_count_once(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("same\n" * 400 + "".join(f"{number}\n" for number in range(150)))
    measured = read_inputs(tmp_path / "lines.txt", Modality.TEXT)
    assert sorted(map(str, measured.items)) == sorted(["same", *map(str, range(150))])


def test_a_pack_gives_its_training_part_and_its_validation_part(pack: Path) -> None:
    calibration, measured = divide_inputs(pack, Modality.TEXT)
    assert set(calibration.items) <= sentences(pack, Split.TRAIN)
    assert set(measured.items) <= sentences(pack, Split.VALIDATION)
    assert len(calibration.items) > 50
    assert len(measured.items) > 100
    assert (calibration.source, measured.source) == ("train split of pack 'notes'", "validation split of pack 'notes'")
    assert read_calibration(pack, Modality.TEXT) == calibration
    assert read_inputs(pack, Modality.TEXT) == measured


def test_json_lines_and_folders_are_read_and_bad_lines_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [json.dumps({"text": f"row {number}"}) for number in range(120)]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join([*rows[:60], "{broken", *rows[60:]]))
    (tmp_path / "in" / "b.txt").write_text("a line\n")
    measured = read_inputs(tmp_path / "in", Modality.TEXT)
    assert set(measured.items) == {"a line", *(f"row {number}" for number in range(120))}


def test_images_are_read_as_they_are(tmp_path: Path) -> None:
    for number in range(104):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")
    measured = read_inputs(tmp_path, Modality.IMAGE)
    assert set(measured.items) == {file.read_bytes() for file in tmp_path.iterdir()}
    assert len(read_calibration(tmp_path / "7.png", Modality.IMAGE).items) == 1


def test_too_few_inputs_to_measure_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "lines.txt", 120)
    assert len(read_inputs(path, Modality.TEXT).items) == 120
    with pytest.raises(ValueError, match=r"leaves 90 different inputs .*, at least 100 are needed; .* with --measure"):
        divide_inputs(path, Modality.TEXT)


def test_what_cannot_be_read_is_named(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no '.*nowhere'; give a pack, a file of texts or a folder of images"
    ):
        read_inputs(tmp_path / "nowhere", Modality.TEXT)
    with pytest.raises(ValueError, match=r"holds texts, the encoder reads images; give a pack of images"):
        divide_inputs(pack, Modality.IMAGE)
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="latin' cannot be read: "):
        read_calibration(tmp_path / "latin", Modality.TEXT)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ValueError, match="empty' holds no input to calibrate on"):
        read_calibration(tmp_path / "empty", Modality.TEXT)
