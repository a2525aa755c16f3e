from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.bundle.load import load_bundle
from tests.training.export.tiny_sources import reuse_graph
from training.export.directory_source import read_directory
from training.export.export import export_directory, export_source, read_source
from training.export.source import ExportConfig

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


@pytest.fixture
def directory(transformer: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sentence-transformers directory: what a bundle is without what is ours."""
    folder = tmp_path / "directory"
    shutil.copytree(transformer.path, folder, ignore=shutil.ignore_patterns("diptych.json", "onnx", "golden"))
    reuse_graph(monkeypatch, transformer.path)
    return folder


def write_prompts(directory: Path, **values: object) -> None:
    (directory / "config_sentence_transformers.json").write_text(json.dumps(values))


def test_a_bundle_opens_as_a_model_directory_and_gives_the_same_space(
    transformer: Exported, directory: Path, tmp_path: Path
) -> None:
    manifest = export_directory(directory, tmp_path / "again")

    assert manifest.encoders[0].space == transformer.manifest.encoders[0].space
    assert manifest.provenance.method == "imported"
    np.testing.assert_allclose(
        np.load(tmp_path / "again" / "golden" / "vectors.npy"),
        np.load(transformer.path / "golden" / "vectors.npy"),
        atol=1e-6,
    )
    assert load_bundle(tmp_path / "again").encoders["text"].info.max_tokens == 24


def test_files_of_the_convention_are_all_there(transformer: Exported) -> None:
    modules = json.loads((transformer.path / "modules.json").read_text())
    pooling = json.loads((transformer.path / "1_Pooling" / "config.json").read_text())
    limits = json.loads((transformer.path / "sentence_bert_config.json").read_text())
    named = json.loads((transformer.path / "config_sentence_transformers.json").read_text())
    tokenizer = json.loads((transformer.path / "tokenizer_config.json").read_text())

    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    assert [module["type"].rsplit(".", 1)[1] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert pooling["word_embedding_dimension"] == 32
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens"]
    assert limits["max_seq_length"] == 24
    assert named["prompts"] == {"query": "query: ", "document": ""}
    assert tokenizer["pad_token"] == "[PAD]"
    assert json.loads((transformer.path / "config.json").read_text())["model_type"] == "bert"


def test_an_architecture_unknown_to_hugging_face_promises_no_modules(two_grus: Exported) -> None:
    assert not (two_grus.path / "modules.json").exists()
    assert json.loads((two_grus.path / "config.json").read_text())["model_type"] == "diptych-gru"
    assert (two_grus.path / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("named", "query", "document"),
    [
        ({"prompts": {"query": "q: ", "document": "d: "}}, "q: ", "d: "),
        ({"prompts": {"query": "q: ", "passage": "p: "}}, "q: ", "p: "),
        ({"prompts": {"s": "s: "}, "default_prompt_name": "s"}, "s: ", "s: "),
        ({"prompts": {"s": "s: "}, "default_prompt_name": None}, "", ""),
        ({}, "", ""),
    ],
)
def test_prompts_are_those_of_sentence_transformers(
    directory: Path, named: dict[str, object], query: str, document: str
) -> None:
    write_prompts(directory, **named)
    prompts = read_directory(directory).prompts
    assert (prompts.query, prompts.document) == (query, document)


def test_prompts_given_take_precedence(directory: Path, tmp_path: Path) -> None:
    write_prompts(directory, prompts={"query": "q: ", "document": "d: "})
    config = ExportConfig(document_prompt="")
    manifest = export_source(read_source(directory), tmp_path / "b", config)
    assert (manifest.encoders[0].prompts.query, manifest.encoders[0].prompts.document) == ("q: ", "")


def test_weights_of_half_precision_are_written_in_full(directory: Path, tmp_path: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    exact = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    save_file({name: value.astype(np.float16) for name, value in weights.items()}, directory / "model.safetensors")
    # The graph of the fixture has the unrounded weights, so that only the files are looked at here.
    source = read_directory(directory)
    (tmp_path / "files").mkdir()
    source.write_files(tmp_path / "files", source.prompts)

    written = load_file(tmp_path / "files" / "model.safetensors")
    assert {name: value.dtype for name, value in written.items()} == dict.fromkeys(exact, np.dtype(np.float32))
    for name, value in written.items():
        np.testing.assert_array_equal(value, exact[name])


def test_a_directory_without_a_fast_tokenizer_is_named(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json; save it with a fast tokenizer"):
        read_directory(directory)


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder; give a run folder or a sentence-transformers directory"):
        read_source(tmp_path / "nothing")
