from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.cli.main import main
from models.bundle.manifest import read_manifest
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle, words
from tests.training.export.tiny_sources import TRANSFORMER, reuse_graph, text_source
from training.evaluation.results import Result, write_results


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = text_source(TRANSFORMER)
    folder = tmp_path_factory.mktemp("directory")
    source.write_files(folder, source.prompts)
    return folder


@pytest.fixture
def quick(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, its graph exported once."""
    exported = directory.parent / "exported"
    if not exported.exists():
        assert main(["export", str(directory), str(exported)]) == 0
    reuse_graph(monkeypatch, exported)
    return directory


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


def test_static_int8_tells_what_it_loses_and_verify_tells_it_again(
    quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{a} {b} {c}\n" for a in words() for b in words()[:4] for c in words()[:2]))
    bundle = tmp_path / "bundle"
    flags = ["--int8", "static", "--calibrate", str(lines), "--truncate-to", "16"]

    assert main(["export", str(quick), str(bundle), *flags, "--max-int8-loss", "0"]) == 1
    assert "the limit is 0.0" in capsys.readouterr().err
    assert not bundle.exists()
    assert main(["export", str(quick), str(bundle), *flags, "--max-int8-loss", "0.9"]) == 0

    out = capsys.readouterr().out
    (entry,) = read_manifest(bundle).encoders
    int8 = entry.graphs["int8"].neighbours
    assert int8 is not None
    assert int8.n_query == len(lines.read_text().splitlines()) - len(words()) * 2  # a quarter was calibrated on
    where = f"{int8.n_query} queries among {int8.n_gallery}, lines.txt"
    assert (
        f"static, of fp32's neighbours recall@10 {int8.recall_at_10:.3f}, R@1 {int8.same_nearest:.3f} ({where})" in out
    )
    assert f"dial: recall@10 against whole float32 vectors, and bytes a vector ({where})" in out
    assert "       32    1.000 (  128)" in out
    assert "shorter dimensions offered: 16" in out

    assert main(["verify", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert f"static; at export recall@10 {int8.recall_at_10:.3f} of fp32's neighbours" in out
    assert f"text dial: recall@10 against whole float32 vectors, and bytes a vector ({where})" in out
    assert "       32    1.000 (  128)" in out


def test_dynamic_int8_without_real_inputs_says_so(
    quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(quick), str(tmp_path / "b"), "--int8", "dynamic"]) == 0
    out = capsys.readouterr().out
    assert "dynamic, on golden inputs only: what retrieval loses is not known; give real inputs with --measure" in out
    assert "dial" not in out
    assert main(["export", str(quick), str(tmp_path / "c"), "--int8", "static"]) == 1
    assert "give --calibrate FILE_OR_PACK, or choose --int8 dynamic" in capsys.readouterr().err


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
