"""`diptych eval` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.cli.main import main
from tests.models.bundle.tiny_bundle import make_text_bundle
from tests.training.evaluation.tiny_runs import make_image_pack, make_text_pack, train_images
from training.evaluation.results import read_results


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_image_pack(folder / "pack")
    train_images(folder / "pack", folder / "run")
    return folder


def test_a_run_is_measured_beside_its_floors(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_file = tmp_path / "rows.json"
    command = ["eval", str(images / "run"), "--data", str(images / "pack"), "--floors", "--differences"]
    assert main([*command, "--json", str(rows_file), "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert "cross-vendor recall@1" in printed.out
    assert printed.err == ""  # no terminal, no progress bars
    rows = read_results(rows_file)
    subjects = {row.subject for row in rows if "difference" not in row.metric}
    assert subjects == {"run", "raw-pixels", "centred-pixels", "untrained"}
    assert {row.task for row in rows} == {"knn", "linear-probe", "few-label", "cross-vendor", "geometry"}
    differences = {row.subject for row in rows if row.metric == "recall@1 difference"}
    assert differences == {"run - raw-pixels", "run - centred-pixels", "run - untrained"}


def test_a_bundle_is_measured_on_texts_as_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_text_pack(tmp_path / "pack")
    make_text_bundle(tmp_path / "bundle")
    command = ["eval", str(tmp_path / "bundle"), "tf-idf", "--data", str(tmp_path / "pack"), "--markdown"]
    assert main([*command, "--tasks", "next-sentence", "--pool-size", "20", "--split", "validation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| measure | subject |")
    assert any(line.startswith("| next-sentence mrr (score cosine, pool 20) | tf-idf |") for line in lines)
    assert all("next-sentence" in line for line in lines[2:])


def test_a_layer_is_measured_and_two_encoders_are_compared(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_file, run, pack = tmp_path / "rows.json", str(images / "run"), str(images / "pack")
    pictures = ["--sheet", str(tmp_path / "sheet.png"), "--map", str(tmp_path / "map.png")]
    command = ["eval", run, run, "--data", pack, "--tasks", "knn", "--layer", "stage.1", "--cka", *pictures]
    assert main([*command, "--json", str(rows_file), "--threads", "1"]) == 0

    rows = read_results(rows_file)
    assert {row.layer for row in rows} == {"stage.1"}
    [likeness] = [row for row in rows if row.task == "cka"]
    assert likeness.value == pytest.approx(1)
    assert likeness.parameters == {"with": "run"}
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert (tmp_path / "map.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["eval", run, "--data", pack, "--layer", "top"]) == 1
    assert "error: --layer top: the encoder has no such layer; it has stem" in capsys.readouterr().err


def test_selection_needs_no_label_and_refuses_the_test_split(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", str(images / "run"), "--data", str(images / "pack"), "--select"]
    assert main([*command, "--split", "test"]) == 1
    assert "cannot be published" in capsys.readouterr().err
    assert main(command) == 1
    assert "fewer items than the vectors have dimensions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tf-idf"], "'tf-idf' is a floor for texts and the data holds images"),
        (["raw-pixels", "--tasks", "topic-knn"], "no image task 'topic-knn'; there are: knn"),
        (["nothing"], "'nothing' is neither a folder nor one of"),
        ([], "name at least one subject"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    images: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["eval", *words, "--data", str(images / "pack")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.out == ""


def test_tasks_that_no_subject_can_do_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_text_pack(tmp_path / "pack")
    assert main(["eval", "tf-idf", "--data", str(tmp_path / "pack"), "--tasks", "geometry"]) == 1
    assert "none of the tasks geometry applies to tf-idf" in capsys.readouterr().err


def test_a_folder_that_is_no_pack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "raw-pixels", "--data", str(tmp_path)]) == 1
    assert "is no pack" in capsys.readouterr().err


def test_rows_are_written_as_json_with_their_schema(images: Path, tmp_path: Path) -> None:
    command = ["eval", "raw-pixels", "--data", str(images / "pack"), "--tasks", "knn", "--bank-items", "5"]
    assert main([*command, "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert {row["schema_version"] for row in rows} == {1}
    assert {row["n_gallery"] for row in rows} == {5}
