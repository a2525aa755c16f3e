from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.bundle.load import load_bundle
from models.bundle.manifest import read_manifest
from tests.training.export.tiny_sources import TRANSFORMER, image_source, reuse_graph, text_source
from training.export import seal
from training.export.export import default_name, export_source
from training.export.seal import ExportError
from training.export.source import ExportConfig

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


@pytest.fixture
def quick(transformer: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exports of the same encoder take the graph that is there already."""
    reuse_graph(monkeypatch, transformer.path)
    return transformer


def scale_a_weight(path: Path, factor: float) -> None:
    model = onnx.load(path)
    (tensor,) = [value for value in model.graph.initializer if value.dims == [24, 32]][:1]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, path)


def test_the_manifest_on_disk_is_the_one_returned(transformer: Exported) -> None:
    assert read_manifest(transformer.path) == transformer.manifest


def test_the_manifest_says_how_it_was_made_and_measured(transformer: Exported) -> None:
    manifest = transformer.manifest
    (entry,) = manifest.encoders

    assert manifest.name == "my-encoder_v1"
    assert manifest.provenance.method == "quick-thoughts"
    assert (manifest.provenance.seed, manifest.provenance.data_fingerprint) == (0, "data")
    assert manifest.evaluation == ({"metric": "mrr", "value": 0.5},)
    assert (entry.dimension, entry.limits.max_tokens, entry.pooling, entry.metric) == (32, 24, "mean", "cosine")
    assert entry.prompts.query == "query: "
    assert set(entry.graphs) == {"fp32", "int8"}
    assert 0 < entry.graphs["fp32"].golden_deviation < 1e-5
    assert 0.9 < entry.graphs["int8"].golden_cosine < 1
    assert entry.graphs["int8"].batch_deviation > 0


def test_the_reference_sample_is_summarised(transformer: Exported) -> None:
    statistics = transformer.manifest.encoders[0].statistics
    assert statistics is not None
    assert (statistics.sample_count, statistics.source) == (4, "four texts")
    assert (statistics.input_size[0], statistics.input_size[-1]) == (3, 5)
    encoder = load_bundle(transformer.path).encoders["text"]
    prepared = [encoder.prepare(text) for text in ("a cat", "the dog sat", "one two three", "stars")]
    assert statistics.mean == pytest.approx(encoder.run(prepared).mean(axis=0), abs=1e-5)


def test_a_bundle_without_a_sample_says_so(two_grus: Exported) -> None:
    assert two_grus.manifest.encoders[0].statistics is None


def test_exporting_twice_gives_the_same_bundle(quick: Exported, tmp_path: Path) -> None:
    config = ExportConfig(query_prompt="query: ", name="same")
    for folder in ("a", "b"):
        export_source(quick.source, tmp_path / folder, config)
    assert (tmp_path / "a" / "diptych.json").read_bytes() == (tmp_path / "b" / "diptych.json").read_bytes()
    assert read_manifest(tmp_path / "a").encoders[0].space == quick.manifest.encoders[0].space


def test_other_weights_are_another_space(quick: Exported, two_grus: Exported) -> None:
    assert quick.manifest.encoders[0].space != two_grus.manifest.encoders[0].space


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_graph_that_is_not_the_encoder_leaves_nothing_behind(
    quick: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    def export_wrongly(served: object, path: Path, *, max_tokens: int) -> None:
        shutil.copy(quick.path / "onnx" / "model.onnx", path)
        scale_a_weight(path, factor)

    monkeypatch.setattr(seal, "export_text_graph", export_wrongly)

    with pytest.raises(ExportError, match="nothing was exported: its fp32 graph does not reproduce the golden vectors"):
        export_source(quick.source, tmp_path / "b", ExportConfig())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_bundle_as_it_was(
    quick: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_source(quick.source, tmp_path / "b", ExportConfig(version="1"))

    def fail(served: object, path: Path, *, max_tokens: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(seal, "export_text_graph", fail)
    with pytest.raises(OSError, match="the disk is full"):
        export_source(quick.source, tmp_path / "b", ExportConfig(version="2", overwrite=True))

    assert load_bundle(tmp_path / "b").manifest.version == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_is_replaced_only_when_asked_for(quick: Exported, tmp_path: Path) -> None:
    export_source(quick.source, tmp_path / "b", ExportConfig(version="1"))

    with pytest.raises(ValueError, match="exists; choose another place or give --overwrite"):
        export_source(quick.source, tmp_path / "b", ExportConfig(version="2"))
    assert load_bundle(tmp_path / "b").manifest.version == "1"

    export_source(quick.source, tmp_path / "b", ExportConfig(version="2", overwrite=True))
    assert load_bundle(tmp_path / "b").manifest.version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_that_is_no_bundle_is_never_replaced(quick: Exported, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="exists and is no bundle; choose another place, it will not be replaced"):
        export_source(quick.source, tmp_path, ExportConfig(overwrite=True))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_an_empty_folder_is_filled(quick: Exported, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    export_source(quick.source, tmp_path / "b", ExportConfig())
    assert load_bundle(tmp_path / "b").manifest.name == "b"


def test_a_document_prompt_changes_vectors_and_space(quick: Exported, tmp_path: Path) -> None:
    manifest = export_source(quick.source, tmp_path / "b", ExportConfig(document_prompt="the "))
    assert manifest.encoders[0].space != quick.manifest.encoders[0].space
    plain = np.load(quick.path / "golden" / "vectors.npy")
    assert np.abs(np.load(tmp_path / "b" / "golden" / "vectors.npy") - plain).max() > 1e-3


def test_diverged_weights_are_refused(quick: Exported, tmp_path: Path) -> None:
    source = text_source(TRANSFORMER)
    next(iter(source.served.parameters())).data.fill_(float("nan"))
    with pytest.raises(ExportError, match="not finite; the training has diverged"):
        export_source(source, tmp_path / "b", ExportConfig())


def test_int8_of_an_encoder_without_matrix_products_is_refused(
    two_grus: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse_graph(monkeypatch, two_grus.path)
    with pytest.raises(ExportError, match=r"no int8 form: .* for transformers.*; leave out --precision int8"):
        export_source(two_grus.source, tmp_path / "b", ExportConfig(precisions=("int8",)))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is unknown; it must be fp32 or int8"):
        ExportConfig(precisions=("fp8",))


@pytest.mark.parametrize(
    ("folder", "name"),
    [("minilm", "minilm"), ("All MiniLM-L6", "all-minilm-l6"), (".hidden", "hidden"), ("über", "-ber"), ("", "x")],
)
def test_the_default_name_is_one_the_manifest_allows(tmp_path: Path, folder: str, name: str) -> None:
    found = default_name(tmp_path / folder if folder else tmp_path / "x")
    assert found == name.lstrip("-")


def test_an_image_encoder_takes_no_int8_and_keeps_its_preprocessing(picture: Exported) -> None:
    values = json.loads((picture.path / "preprocessor_config.json").read_text())
    assert values["size"] == {"height": 16, "width": 16}
    assert values["image_mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert (picture.path / "golden" / "00.png").is_file()
    assert picture.manifest.encoders[0].limits.image_size_px == 16


def test_two_exports_of_one_image_encoder_share_a_space(picture: Exported, tmp_path: Path) -> None:
    again = export_source(image_source(), tmp_path / "again", ExportConfig(name="other"))
    assert again.encoders[0].space == picture.manifest.encoders[0].space
    assert again.encoders[0].graphs["fp32"].fingerprint == picture.manifest.encoders[0].graphs["fp32"].fingerprint


def test_unusable_reference_inputs_are_left_out(quick: Exported, tmp_path: Path) -> None:
    reference = quick.source.reference
    assert reference is not None
    odd = replace(reference, items=["a cat", "\ud800", "the dog"])
    manifest = export_source(quick.source, tmp_path / "b", ExportConfig(reference=odd))
    statistics = manifest.encoders[0].statistics
    assert statistics is not None
    assert statistics.sample_count == 2
