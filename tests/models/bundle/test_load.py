from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.bundle.encoder import Purpose
from models.bundle.identity import digest
from models.bundle.load import BundleError, load_bundle
from models.bundle.manifest import Prompts, read_manifest
from models.bundle.verify import verify_bundle
from tests.models.bundle.tiny_bundle import TEXTS, make_image_bundle, make_text_bundle, reseal


@pytest.fixture
def text_bundle(tmp_path: Path) -> Path:
    make_text_bundle(tmp_path / "text")
    return tmp_path / "text"


@pytest.fixture
def image_bundle(tmp_path: Path) -> Path:
    make_image_bundle(tmp_path / "image")
    return tmp_path / "image"


def refusal(folder: Path) -> str:
    """Returns the sentence a bundle is refused with; `verify` must find fault with it too."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert not verify_bundle(folder).passed
    return str(caught.value)


def edit_manifest(folder: Path, *, seal: bool = True, **changes: object) -> None:
    file = folder / "diptych.json"
    values = json.loads(file.read_text())
    values.pop("seal")
    values.update(changes)
    file.write_text(json.dumps({"seal": digest(values) if seal else "0", **values}))


def test_a_text_bundle_reproduces_its_golden_vectors_in_any_batch(text_bundle: Path) -> None:
    encoder = load_bundle(text_bundle).encoders["text"]
    wanted = np.load(text_bundle / "golden" / "vectors.npy")

    prepared = [encoder.prepare(text) for text in TEXTS]

    np.testing.assert_allclose(encoder.run(prepared), wanted, atol=1e-6)
    np.testing.assert_allclose(encoder.run(prepared[1:2]), wanted[1:2], atol=1e-6)
    assert [item.cost for item in prepared] == [4, 8, 4, 3, 8]
    assert [item.truncated for item in prepared] == [False, True, False, False, True]


def test_an_image_bundle_reproduces_its_golden_vectors(image_bundle: Path) -> None:
    encoder = load_bundle(image_bundle).encoders["image"]
    wanted = np.load(image_bundle / "golden" / "vectors.npy")

    prepared = [encoder.prepare((image_bundle / "golden" / f"{n:02d}.png").read_bytes()) for n in range(3)]

    np.testing.assert_allclose(encoder.run(prepared), wanted, atol=1e-5)
    assert prepared[0].cost == 16


def test_info_says_what_the_manifest_says(text_bundle: Path) -> None:
    info = load_bundle(text_bundle).encoders["text"].info
    (entry,) = read_manifest(text_bundle).encoders

    assert (info.name, info.dimension, info.max_tokens, info.metric) == ("tiny-text", 6, 8, "cosine")
    assert info.space == entry.space
    assert info.fingerprint == entry.graphs["fp32"].fingerprint


def test_the_query_prompt_is_written_before_queries_only(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b", prompts=Prompts(query="query: "))
    encoder = load_bundle(tmp_path / "b").encoders["text"]

    query = encoder.prepare("a cat", purpose=Purpose.QUERY)
    spelled_out = encoder.prepare("query: a cat")

    np.testing.assert_array_equal(query.array, spelled_out.array)
    assert len(encoder.prepare("a cat").array) == len(query.array) - 1


def test_prompts_give_the_artefact_and_the_space_other_names(tmp_path: Path) -> None:
    plain = make_text_bundle(tmp_path / "plain").encoders[0]
    query = make_text_bundle(tmp_path / "query", prompts=Prompts(query="query: ")).encoders[0]
    document = make_text_bundle(tmp_path / "document", prompts=Prompts(document="the ")).encoders[0]

    assert query.space == plain.space
    assert query.graphs["fp32"].fingerprint != plain.graphs["fp32"].fingerprint
    assert document.space != plain.space


def test_the_wrong_kind_of_input_is_refused(text_bundle: Path, image_bundle: Path) -> None:
    with pytest.raises(ValueError, match="'tiny-text' reads texts, not images"):
        load_bundle(text_bundle).encoders["text"].prepare(b"\x89PNG")
    with pytest.raises(ValueError, match="'tiny-image' reads images, not texts"):
        load_bundle(image_bundle).encoders["image"].prepare("a cat")


def test_an_int8_graph_near_the_golden_vectors_shares_the_space(tmp_path: Path) -> None:
    manifest = make_text_bundle(tmp_path / "b", int8_noise=0.01)

    info = load_bundle(tmp_path / "b", precision="int8").encoders["text"].info

    assert info.space == manifest.encoders[0].space
    assert info.fingerprint == manifest.encoders[0].graphs["int8"].fingerprint
    assert info.fingerprint != manifest.encoders[0].graphs["fp32"].fingerprint


def test_an_int8_graph_that_strays_on_this_machine_is_a_space_of_its_own(tmp_path: Path) -> None:
    manifest = make_text_bundle(tmp_path / "b", int8_noise=0.2)

    info = load_bundle(tmp_path / "b", precision="int8").encoders["text"].info

    assert info.space != manifest.encoders[0].space
    assert info.fingerprint != manifest.encoders[0].graphs["int8"].fingerprint


def test_an_int8_graph_that_has_lost_the_encoder_is_refused(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b", int8_noise=3.0)

    with pytest.raises(BundleError, match=r"int8 graph strays .* at least 0.9 is needed"):
        load_bundle(tmp_path / "b", precision="int8")
    assert load_bundle(tmp_path / "b").encoders["text"].info.precision == "fp32"


def test_a_precision_that_is_not_there_is_named(text_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no int8 graph, only fp32; export it again with --precision int8"):
        load_bundle(text_bundle, precision="int8")


def test_threads_below_one_are_refused(text_bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"threads \(0\) must be at least 1"):
        load_bundle(text_bundle, threads=0)


@pytest.mark.parametrize("file", ["onnx/model.onnx", "golden/vectors.npy", "golden/texts.json", "tokenizer.json"])
def test_a_flipped_byte_is_refused(text_bundle: Path, file: str) -> None:
    content = bytearray((text_bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (text_bundle / file).write_bytes(content)

    assert f"'{file}' was changed: its sha256 does not match" in refusal(text_bundle)


def test_a_cut_file_is_refused(text_bundle: Path) -> None:
    file = text_bundle / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1])

    assert "'onnx/model.onnx' has " in refusal(text_bundle)


def test_a_missing_file_is_refused(text_bundle: Path) -> None:
    (text_bundle / "tokenizer.json").unlink()

    assert "'tokenizer.json' is missing" in refusal(text_bundle)


def test_a_file_too_many_is_refused(text_bundle: Path) -> None:
    (text_bundle / "onnx" / "notes.txt").write_text("hello")

    assert "'onnx/notes.txt' is not part of the bundle; remove it" in refusal(text_bundle)


def test_a_link_that_leaves_the_folder_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.json"
    (text_bundle / "tokenizer.json").rename(moved)
    (text_bundle / "tokenizer.json").symlink_to(moved)

    assert "'tokenizer.json' is a link that leaves the bundle's folder" in refusal(text_bundle)


def test_a_changed_normalisation_constant_is_refused(image_bundle: Path) -> None:
    file = image_bundle / "preprocessor_config.json"
    values = json.loads(file.read_text())
    values["image_mean"][0] = 0.6
    file.write_text(json.dumps(values))

    assert "'preprocessor_config.json' was changed" in refusal(image_bundle)


def test_a_changed_normalisation_constant_under_fitting_hashes_is_refused(image_bundle: Path) -> None:
    def change(folder: Path) -> None:
        values = json.loads((folder / "preprocessor_config.json").read_text())
        values["image_std"][2] = 0.41
        (folder / "preprocessor_config.json").write_text(json.dumps(values))

    reseal(image_bundle, change)

    assert "preprocessor_config.json, the pooling or the document prompt is not the one" in refusal(image_bundle)


def test_a_swapped_tokenizer_under_fitting_hashes_is_refused(text_bundle: Path) -> None:
    def change(folder: Path) -> None:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    reseal(text_bundle, change)

    assert "tokenizer.json, the pooling or the document prompt is not the one" in refusal(text_bundle)


def test_golden_vectors_that_the_graph_does_not_reproduce_are_refused(text_bundle: Path) -> None:
    def change(folder: Path) -> None:
        vectors = np.load(folder / "golden" / "vectors.npy")
        vectors[2, 3] += 1e-3
        np.save(folder / "golden" / "vectors.npy", vectors)

    reseal(text_bundle, change)

    assert "fp32 graph does not reproduce the golden vectors on this machine: they differ by 0.001" in refusal(
        text_bundle
    )


def test_a_graph_of_another_encoder_under_fitting_hashes_is_refused(text_bundle: Path, image_bundle: Path) -> None:
    def change(folder: Path) -> None:
        shutil.copy(image_bundle / "onnx" / "model.onnx", folder / "onnx" / "model.onnx")

    reseal(text_bundle, change)

    assert "'onnx/model.onnx' takes pixel_values and gives image_embedding" in refusal(text_bundle)


def test_an_edited_manifest_is_refused(text_bundle: Path) -> None:
    edit_manifest(text_bundle, seal=False, version="2")

    assert "diptych.json was changed after export" in refusal(text_bundle)


def test_another_format_version_is_refused(text_bundle: Path) -> None:
    edit_manifest(text_bundle, format_version=2)

    assert "format version 2, this diptych reads version 1; export the bundle again" in refusal(text_bundle)


def test_a_query_prompt_changed_under_a_fitting_seal_is_refused(text_bundle: Path) -> None:
    values = json.loads((text_bundle / "diptych.json").read_text())
    values["encoders"][0]["prompts"]["query"] = "query: "
    edit_manifest(text_bundle, encoders=values["encoders"])

    assert "fingerprint of its fp32 graph is" in refusal(text_bundle)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "C:\\x", "C:x", "a/../../b", "a//b", "./a", "diptych.json"]
)
def test_a_path_that_leaves_the_folder_is_refused(text_bundle: Path, path: str) -> None:
    values = json.loads((text_bundle / "diptych.json").read_text())
    edit_manifest(text_bundle, files={**values["files"], path: {"sha256": "0", "size_bytes": 1}})

    assert f"files names the path '{path}', which is not a plain path inside the bundle" in refusal(text_bundle)


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    assert "has no diptych.json; make one with `diptych export`" in refusal(tmp_path)


def test_a_manifest_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "diptych.json").write_text("{")

    assert "diptych.json is no valid JSON" in refusal(tmp_path)


def test_a_damaged_graph_opens_as_one_clear_sentence(text_bundle: Path) -> None:
    def change(folder: Path) -> None:
        (folder / "onnx" / "model.onnx").write_bytes(b"not a graph")

    reseal(text_bundle, change)

    message = refusal(text_bundle)
    assert "cannot open 'model.onnx'" in message
    assert "\n" not in message


def test_without_verification_only_the_manifest_is_trusted_to_be_strict(text_bundle: Path) -> None:
    (text_bundle / "notes.txt").write_text("hello")

    assert load_bundle(text_bundle, verify=False).encoders["text"].info.name == "tiny-text"
