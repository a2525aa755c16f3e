from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundle.encoder import Modality
from models.bundle.load import load_bundle
from models.config import ImageEncoderConfig, Pooling, TextArchitecture, TextEncoderConfig
from tests.models.bundle.tiny_bundle import words
from training.config import DeviceConfig, FitConfig, LoopConfig
from training.corpora.document import Document
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import Split, SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack
from training.export.export import export_run, export_source, read_source
from training.export.run_source import is_run, read_run
from training.export.source import ExportConfig
from training.fit.fit_image import fit_image
from training.fit.fit_text import fit_text
from training.run_config import ImageRunConfig, TextRunConfig, TokenizerConfig

FRACTIONS = SplitFractions(validation=0.3, test=0.1)
TWO_STEPS = FitConfig(loop=LoopConfig(max_steps=2, collapse_threshold=0), device=DeviceConfig(threads=1, workers=1))


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    documents = [
        Document(id=str(n), sentences=tuple(" ".join(rng.choice(words(), 6)) + "." for _ in range(8)))
        for n in range(30)
    ]
    write_text_pack(documents, folder / "pack", source="words", fractions=FRACTIONS)
    encoder = TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER, width=16, layers=1, heads=2, max_tokens=20, pooling=Pooling.MEAN
    )
    config = TextRunConfig(
        data=folder / "pack",
        out=folder / "run",
        encoder=encoder,
        tokenizer=TokenizerConfig(vocab_size=300),
        batch_size=16,
        fit=TWO_STEPS,
    )
    fit_text(config)
    return folder / "run"


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    rng = np.random.default_rng(0)
    items = []
    for number in range(24):
        file = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
        items.append(ImageItem(id=str(number), content=file))
    write_image_pack(items, folder / "pack", size_px=16, source="noise", root=folder, fractions=FRACTIONS)
    config = ImageRunConfig(
        data=folder / "pack",
        out=folder / "run",
        encoder=ImageEncoderConfig(architecture="tiny-resnet", image_size_px=16),
        batch_size=8,
        fit=TWO_STEPS,
    )
    fit_image(config)
    return folder / "run"


def test_a_text_run_becomes_a_bundle_that_says_how_it_was_trained(text_run: Path, tmp_path: Path) -> None:
    manifest = export_run(text_run, tmp_path / "words", results=[{"metric": "mrr", "value": 0.1}])

    (entry,) = manifest.encoders
    assert (manifest.name, entry.modality, entry.limits.max_tokens) == ("words", Modality.TEXT, 20)
    assert (manifest.provenance.method, manifest.provenance.seed) == ("quick-thoughts", 0)
    assert manifest.provenance.data_fingerprint
    assert {"torch", "onnxruntime"} <= set(manifest.provenance.versions)
    assert manifest.evaluation[0]["value"] == 0.1
    assert entry.statistics is not None
    assert entry.statistics.source.startswith("validation split of pack ")
    assert entry.statistics.sample_count > 10
    assert load_bundle(tmp_path / "words").encoders["text"].info.name == "words"


def test_an_image_run_becomes_a_bundle_with_the_originals_summarised(image_run: Path, tmp_path: Path) -> None:
    manifest = export_run(image_run, tmp_path / "noise")

    (entry,) = manifest.encoders
    assert (entry.modality, entry.limits.image_size_px, manifest.provenance.method) == (Modality.IMAGE, 16, "simclr")
    assert entry.statistics is not None
    assert entry.statistics.input_size == (600.0,) * 7
    assert entry.statistics.brightness[3] == pytest.approx(0.5, abs=0.02)
    assert load_bundle(tmp_path / "noise").encoders["image"].info.dimension == entry.dimension


def test_an_image_run_is_sealed_at_another_size(image_run: Path, text_run: Path, tmp_path: Path) -> None:
    manifest = export_source(read_source(image_run, image_size_px=24), tmp_path / "larger", ExportConfig())

    (entry,) = manifest.encoders
    encoder = load_bundle(tmp_path / "larger").encoders["image"]
    assert (entry.limits.image_size_px, encoder.info.image_size_px) == (24, 24)
    with pytest.raises(ValueError, match=r"reads texts; a size in pixels \(24\)"):
        read_source(text_run, image_size_px=24)
    with pytest.raises(ValueError, match=r"--size-px \(24\) is for an image run or a file of weights"):
        read_source(tmp_path / "larger", image_size_px=24)


def test_static_int8_of_a_run_is_calibrated_on_its_training_part(text_run: Path, image_run: Path) -> None:
    pack = TextPack.open(text_run.parent / "pack")
    parts = {
        split: {sentence for document in pack.documents(split) for sentence in document.sentences} for split in Split
    }
    text, image = read_run(text_run), read_run(image_run)
    assert text.calibration is not None
    assert image.calibration is not None
    texts, images = text.calibration(), image.calibration()
    assert texts is not None
    assert images is not None
    assert len(texts.items) > 50
    assert set(texts.items) <= parts[Split.TRAIN]
    assert texts.source.startswith("train split of pack ")
    pictures = ImagePack.open(image_run.parent / "pack")
    assert list(images.items) == [pictures.original(int(index)) for index in pictures.indices(Split.TRAIN)]


def test_a_run_whose_pack_is_gone_has_no_reference_sample(text_run: Path, tmp_path: Path) -> None:
    pack = text_run.parent / "pack"
    moved = tmp_path / "moved"
    shutil.move(pack, moved)
    try:
        source = read_run(text_run)
    finally:
        shutil.move(moved, pack)
    assert source.reference is None


def test_another_pack_at_its_place_is_not_taken_for_it(text_run: Path, tmp_path: Path) -> None:
    pack = text_run.parent / "pack"
    moved = tmp_path / "moved"
    shutil.move(pack, moved)
    try:
        write_text_pack([Document(id=str(n), sentences=("a", "b")) for n in range(9)], pack, source="other")
        source = read_run(text_run)
    finally:
        shutil.rmtree(pack)
        shutil.move(moved, pack)
    assert source.reference is None


def test_a_run_is_told_from_a_model_directory(text_run: Path, image_run: Path, tmp_path: Path) -> None:
    assert is_run(text_run)
    assert is_run(image_run)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / "nothing")
    assert read_source(image_run).modality is Modality.IMAGE


def test_prompts_for_an_image_encoder_are_refused(image_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an image encoder takes no prompts"):
        export_source(read_run(image_run), tmp_path / "b", ExportConfig(query_prompt="find: "))
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_refused(text_run: Path, tmp_path: Path) -> None:
    shutil.copytree(text_run, tmp_path / "run")
    (tmp_path / "run" / "encoder.safetensors").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        export_run(tmp_path / "run", tmp_path / "b")
