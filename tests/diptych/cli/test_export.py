from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.cli.main import main
from models.bundle.manifest import read_manifest
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle
from tests.training.export.tiny_sources import TRANSFORMER, text_source
from training.evaluation.results import Result, write_results


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = text_source(TRANSFORMER)
    folder = tmp_path_factory.mktemp("directory")
    source.write_files(folder, source.prompts)
    return folder


def write_one_result(path: Path) -> None:
    row = Result(
        subject="tiny",
        subject_fingerprint="f",
        data="words",
        data_fingerprint="d",
        split="test",
        task="next-sentence",
        metric="mrr",
        layer="embedding",
        n_gallery=10,
        n_query=9,
        value=0.25,
    )
    write_results(path, [row])


def test_export_prints_what_it_made_and_verify_agrees(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_one_result(tmp_path / "results.json")
    bundle = tmp_path / "bundle"

    flags = ["--precision", "fp32", "int8", "--name", "tiny", "--prompt-query", "query: "]
    assert main(["export", str(directory), str(bundle), *flags, "--results", str(tmp_path / "results.json")]) == 0

    out = capsys.readouterr().out
    manifest = read_manifest(bundle)
    assert f"{bundle}: text encoder 'tiny', 32 dimensions, cosine, up to 24 tokens" in out
    assert manifest.encoders[0].space in out
    assert "fp32: against torch " in out
    assert "int8: against torch " in out
    assert manifest.encoders[0].prompts.query == "query: "
    assert manifest.evaluation[0]["value"] == 0.25

    assert main(["verify", str(bundle)]) == 0
    assert f"{bundle} is sound" in capsys.readouterr().out
    assert main(["export", str(directory), str(bundle)]) == 1
    assert "exists; choose another place or give --overwrite" in capsys.readouterr().err


def test_verify_says_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_text_bundle(tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").unlink()

    assert main(["verify", str(tmp_path / "b")]) == 1

    out = capsys.readouterr().out
    assert "FAIL  files            the file 'tokenizer.json' is missing" in out
    assert f"{tmp_path / 'b'} is refused" in out


def test_verify_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_image_bundle(tmp_path / "b")

    assert main(["verify", str(tmp_path / "b"), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert [check["name"] for check in report["checks"]] == ["manifest", "files", "image identity", "image fp32"]


def test_a_source_that_is_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_no_results_is_named(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert main(["export", str(directory), str(tmp_path / "b"), "--results", str(tmp_path / "results.json")]) == 1
    assert "results.json must hold a list of result rows" in capsys.readouterr().err


def test_verify_loads_no_torch(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b")
    program = (
        "import sys; from diptych.cli.main import main; code = main(['verify', sys.argv[1]]); "
        "assert not {'torch', 'transformers', 'training'} & set(sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "b")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("verb", ["export", "verify"])
def test_help_loads_nothing_heavy(verb: str) -> None:
    program = (
        "import sys; from diptych.cli.main import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'onnxruntime', 'grpc', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program, verb], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "bundle" in result.stdout.lower()
