"""An image backbone's weights become a bundle without any training here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from models.bundle.load import load_bundle
from models.bundle.pixels import decode_image, normalise_image, resize_image
from models.config import ImageEncoderConfig, Normalization
from models.image.build import build_image_encoder
from models.image.encoder import ImageEncoder
from tests.models.bundle.test_pixels import encode
from training.export.export import export_source, read_source
from training.export.source import ExportConfig
from training.export.weights_source import WeightsFile

TINY = WeightsFile(architecture="tiny-resnet", size_px=16)


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    return build_image_encoder(ImageEncoderConfig(architecture="tiny-resnet", image_size_px=16)).eval()


@pytest.fixture(scope="module")
def weights(encoder: ImageEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(encoder.backbone.state_dict(), file)
    return file


def test_the_bundle_embeds_as_the_backbone_does(encoder: ImageEncoder, weights: Path, tmp_path: Path) -> None:
    manifest = export_source(read_source(weights, TINY), tmp_path / "bundle", ExportConfig(name="mine"))
    assert (manifest.provenance.method, manifest.provenance.config["weights"]) == ("imported", "backbone.safetensors")
    loaded = load_bundle(tmp_path / "bundle").encoders["image"]
    picture = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)))
    pixels = normalise_image(resize_image(decode_image(picture), TINY.preprocessing), TINY.preprocessing)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(encoder(torch.from_numpy(pixels)[None]), dim=1).numpy()
    np.testing.assert_allclose(loaded.run([loaded.prepare(picture)]), expected, atol=1e-5)


def test_lite_is_normalised_as_it_was_trained_and_others_by_imagenet() -> None:
    lite = WeightsFile(architecture="efficientnet-lite0")
    assert lite.preprocessing.mean == Normalization.SYMMETRIC.mean
    assert WeightsFile(architecture="resnet18").preprocessing.std == Normalization.IMAGENET.std
    chosen = WeightsFile(architecture="efficientnet-lite0", normalization=Normalization.IMAGENET)
    assert chosen.preprocessing.mean == Normalization.IMAGENET.mean


def test_what_does_not_fit_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a file of weights: name its --architecture"):
        read_source(weights)
    with pytest.raises(ValueError, match="does not fill resnet18"):
        read_source(weights, WeightsFile(architecture="resnet18", size_px=32))
    with pytest.raises(ValueError, match="--architecture is for a file of weights"):
        read_source(tmp_path, TINY)
    with pytest.raises(ValueError, match="takes no prompts"):
        export_source(read_source(weights, TINY), tmp_path / "bundle", ExportConfig(query_prompt="find: "))
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(ValueError, match="nobody"):
        read_source(weights, WeightsFile(architecture="nobody"))
