"""Runs, bundles, directories and floors, opened by name and embedding as they are served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.bundle.encoder import Modality
from models.bundle.load import load_bundle
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle
from tests.training.evaluation.tiny_runs import make_image_pack, make_text_pack, train_images, train_text
from training.corpora.splits import Split
from training.evaluation.evaluate import open_data
from training.evaluation.open_subject import EvaluationData, open_floors, open_subject
from training.evaluation.source_subjects import run_parts, untrained_subject
from training.evaluation.subjects import ImageSubject, TowerSubject
from training.evaluation.torch_subjects import TorchTextSubject
from training.run_folder import load_run

TEXTS = ["a cat", "the dog sat on the mat by the door", "stars"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    make_text_pack(folder / "pack")
    train_text(folder / "pack", folder / "run")
    train_text(folder / "pack", folder / "tied", towers=1)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_image_pack(folder / "pack")
    train_images(folder / "pack", folder / "run")
    return folder


@pytest.fixture(scope="module")
def text_data(texts: Path) -> EvaluationData:
    return open_data(texts / "pack")


@pytest.fixture(scope="module")
def image_data(images: Path) -> EvaluationData:
    return open_data(images / "pack")


def embed_texts(name: str | Path, data: EvaluationData, *, seed: int = 0) -> NDArray[np.float32]:
    subject = open_subject(str(name), data, seed=seed)
    assert not isinstance(subject, ImageSubject)
    vectors = subject.embed_texts(TEXTS)
    assert isinstance(vectors, np.ndarray)
    return vectors


def test_a_text_run_embeds_as_its_served_encoder_does(texts: Path, text_data: EvaluationData) -> None:
    run = load_run(texts / "run")
    assert run.tokenizer is not None
    tokens = [run.tokenizer.encode(text, max_tokens=20).ids for text in TEXTS]
    ids, mask = run.tokenizer.pad(tokens)
    with torch.inference_mode():
        expected = run.served(torch.from_numpy(ids), torch.from_numpy(mask))[1].numpy()
    vectors = embed_texts(texts / "run", text_data)
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_towers_of_an_untied_run_are_the_served_halves_before_scaling(texts: Path, text_data: EvaluationData) -> None:
    subject = open_subject(str(texts / "run"), text_data)
    assert isinstance(subject, TorchTextSubject)
    assert isinstance(subject, TowerSubject)
    f, g = subject.embed_towers(TEXTS)
    halves = [tower / np.linalg.norm(tower, axis=1, keepdims=True) for tower in (f, g)]
    assert np.hstack(halves) / np.sqrt(2) == pytest.approx(subject.embed_texts(TEXTS), abs=1e-5)


def test_a_run_trained_by_cosine_has_no_other_training_score(texts: Path, text_data: EvaluationData) -> None:
    assert not isinstance(open_subject(str(texts / "tied"), text_data), TowerSubject)


def test_an_untrained_encoder_has_the_shape_and_its_own_seeded_weights(texts: Path, text_data: EvaluationData) -> None:
    name = f"untrained:{texts / 'run'}"
    fresh = embed_texts(name, text_data)
    assert fresh.shape == embed_texts(texts / "run", text_data).shape
    assert np.array_equal(fresh, embed_texts(name, text_data))
    assert not np.allclose(fresh, embed_texts(name, text_data, seed=1), atol=1e-3)
    assert not np.allclose(fresh, embed_texts(texts / "run", text_data), atol=1e-3)
    assert open_subject(name, text_data).info.name == "untrained"


def test_building_an_untrained_encoder_leaves_the_random_state(texts: Path) -> None:
    parts = run_parts(texts / "run")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained_subject(parts, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_an_image_run_embeds_packed_pixels_as_served(images: Path, image_data: EvaluationData) -> None:
    subject = open_subject(str(images / "run"), image_data)
    assert isinstance(subject, ImageSubject)
    assert image_data.images is not None
    indices = image_data.images.indices(Split.TEST)[:4]
    packed = subject.embed_images(image_data.images, indices)
    originals = subject.embed_images(image_data.images, indices, from_originals=True)
    assert packed == pytest.approx(originals, abs=1e-5)  # one implementation resized both
    assert np.linalg.norm(packed, axis=1) == pytest.approx(np.ones(len(indices)), abs=1e-5)
    assert subject.info.flops is not None
    assert subject.info.flops > 1e6


def test_a_run_is_measured_at_another_size(images: Path, texts: Path, image_data: EvaluationData) -> None:
    trained = open_subject(str(images / "run"), image_data)
    larger = open_subject(str(images / "run"), image_data, image_size_px=48)
    assert isinstance(larger, ImageSubject)
    assert isinstance(trained, ImageSubject)
    assert larger.info.name == "run at 48 px"
    assert larger.encoder.size_px == 48
    assert trained.info.flops is not None
    assert larger.info.flops == pytest.approx(trained.info.flops * (48 / 16) ** 2, rel=0.05)
    with pytest.raises(ValueError, match=r"reads texts; a size in pixels \(48\) is for images"):
        open_subject(str(texts / "run"), image_data, image_size_px=48)


def test_a_text_bundle_embeds_as_a_server_would(tmp_path: Path, text_data: EvaluationData) -> None:
    make_text_bundle(tmp_path / "bundle")
    encoder = load_bundle(tmp_path / "bundle").encoders["text"]
    expected = np.concatenate([encoder.run([encoder.prepare(text)]) for text in TEXTS])
    assert embed_texts(tmp_path / "bundle", text_data) == pytest.approx(expected, abs=1e-5)
    info = open_subject(str(tmp_path / "bundle"), text_data).info
    assert (info.name, info.fingerprint) == ("tiny-text (fp32 bundle)", encoder.info.fingerprint)


def test_an_image_bundle_embeds_as_a_server_would(tmp_path: Path, image_data: EvaluationData) -> None:
    make_image_bundle(tmp_path / "bundle")
    encoder = load_bundle(tmp_path / "bundle").encoders["image"]
    assert image_data.images is not None
    indices = image_data.images.indices(Split.TEST)[:3]
    expected = encoder.run([encoder.prepare(image_data.images.original(int(i))) for i in indices])
    subject = open_subject(str(tmp_path / "bundle"), image_data)
    assert isinstance(subject, ImageSubject)
    assert subject.embed_images(image_data.images, indices) == pytest.approx(expected, abs=1e-5)


def test_floors_of_texts_are_words_and_each_run_untrained(texts: Path, text_data: EvaluationData) -> None:
    run, tied = str(texts / "run"), str(texts / "tied")
    assert [floor.info.name for floor in open_floors((run, run, tied), text_data)] == [
        "tf-idf",
        "untrained",
        "untrained",
    ]
    assert open_floors(("tf-idf", f"untrained:{run}", run), text_data) == []


def test_floors_of_images_are_pixels_and_each_run_untrained(images: Path, image_data: EvaluationData) -> None:
    names = [floor.info.name for floor in open_floors((str(images / "run"), "raw-pixels"), image_data)]
    assert names == ["centred-pixels", "untrained"]


@pytest.mark.parametrize("name", ["raw-pixels", "centred-pixels"])
def test_pixels_of_texts_are_refused(text_data: EvaluationData, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is a floor for images and the data holds texts"):
        open_subject(name, text_data)


def test_words_of_images_are_refused(image_data: EvaluationData) -> None:
    with pytest.raises(ValueError, match="'tf-idf' is a floor for texts and the data holds images"):
        open_subject("tf-idf", image_data)


def test_a_run_or_bundle_of_the_other_modality_is_refused(
    texts: Path, tmp_path: Path, image_data: EvaluationData
) -> None:
    with pytest.raises(ValueError, match="reads texts and the data holds images; choose another pack"):
        open_subject(str(texts / "run"), image_data)
    make_text_bundle(tmp_path / "bundle")
    with pytest.raises(ValueError, match=r"bundle .* reads texts and the data holds images"):
        open_subject(str(tmp_path / "bundle"), image_data)


def test_an_unknown_name_is_refused_with_those_there_are(text_data: EvaluationData) -> None:
    with pytest.raises(ValueError, match="'bert' is neither a folder nor one of raw-pixels"):
        open_subject("bert", text_data)
    with pytest.raises(ValueError, match="'untrained:bert' names no folder"):
        open_subject("untrained:bert", text_data)


def test_a_bundle_cannot_be_untrained(tmp_path: Path, text_data: EvaluationData) -> None:
    make_text_bundle(tmp_path / "bundle")
    with pytest.raises(ValueError, match="name the run instead"):
        open_subject(f"untrained:{tmp_path / 'bundle'}", text_data)


def test_packs_are_opened_by_their_kind(texts: Path, images: Path, tmp_path: Path) -> None:
    assert open_data(texts / "pack").modality is Modality.TEXT
    data = open_data(images / "pack")
    assert (data.modality, data.name) == (Modality.IMAGE, "pack")
    assert data.images is not None
    assert data.fingerprint == data.images.fingerprint
    with pytest.raises(ValueError, match="is no pack"):
        open_data(tmp_path)


def test_data_hold_one_modality(texts: Path) -> None:
    with pytest.raises(ValueError, match="must hold images only"):
        EvaluationData(Modality.IMAGE, "wrong", texts=open_data(texts / "pack").texts)
