from pathlib import Path

import pytest
import torch
import torchvision  # type: ignore[import-untyped]  # has no stubs
from safetensors.torch import save_file
from torch import Tensor

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from models.image.encoder import ImageEncoder
from models.image.weights import load_image_weights
from tests.models.image.lite0_reference import compute_features, make_state


def make_encoder(architecture: str = "tiny-resnet", size_px: int = 32) -> ImageEncoder:
    torch.manual_seed(0)
    return build_image_encoder(ImageEncoderConfig(architecture=architecture, image_size_px=size_px)).eval()


def resnet_state() -> dict[str, Tensor]:
    torch.manual_seed(9)
    return dict(torchvision.models.resnet18().state_dict())


def test_the_packages_efficientnet_computes_what_its_description_says(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = make_state()
    torch.save(state, tmp_path / "lite0.pth")
    encoder = make_encoder("efficientnet-lite0", 64)
    load_image_weights(encoder, tmp_path / "lite0.pth")
    pixels = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    exact = {name: value.double() for name, value in state.items()}

    with torch.inference_mode():
        features = encoder.double()(pixels)
        assert features.std() > 0.1
        torch.testing.assert_close(features, compute_features(exact, pixels))


@pytest.mark.parametrize("form", ["safetensors", "plain", "checkpoint", "model", "parallel"])
def test_torchvisions_weights_load_in_each_form_without_their_classifier(tmp_path: Path, form: str) -> None:
    state = resnet_state()
    file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    match form:
        case "safetensors":
            save_file(state, file)
        case "plain":
            torch.save(state, file)
        case "checkpoint":
            torch.save({"state_dict": state, "epoch": 3}, file)
        case "model":
            torch.save({"model": state}, file)
        case _:
            torch.save({f"module.{name}": value for name, value in state.items()}, file)
    encoder = make_encoder("resnet18", 224)
    load_image_weights(encoder, file)

    loaded = encoder.backbone.state_dict()
    assert len(loaded) == len(state) - 2
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_weights_of_a_run_folder_load(tmp_path: Path) -> None:
    torch.manual_seed(4)
    trained = build_image_encoder(ImageEncoderConfig())
    save_file(trained.state_dict(), tmp_path / "encoder.safetensors")
    encoder = make_encoder()
    load_image_weights(encoder, tmp_path / "encoder.safetensors")

    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(pixels), trained.eval()(pixels))


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path) -> None:
    state = resnet_state()
    state["layer1.0.conv9.weight"] = state.pop("layer1.0.conv1.weight")
    save_file(state, tmp_path / "weights.safetensors")

    with pytest.raises(
        ValueError, match=r"1 missing \(layer1.0.conv1.weight\); 1 unexpected \(layer1.0.conv9.weight\). Choose"
    ):
        load_image_weights(make_encoder("resnet18", 224), tmp_path / "weights.safetensors")


def test_weights_for_another_stem_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    save_file(resnet_state(), tmp_path / "weights.safetensors")
    encoder = make_encoder("resnet18", 32)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    with pytest.raises(ValueError, match=r"conv1.weight \[64, 3, 7, 7\] instead of \[64, 3, 3, 3\].*small stem True"):
        load_image_weights(encoder, tmp_path / "weights.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_weights_without_batch_counts_load(tmp_path: Path) -> None:
    state = {name: value for name, value in resnet_state().items() if not name.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "old.safetensors")
    load_image_weights(make_encoder("resnet18", 224), tmp_path / "old.safetensors")


class Trap:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return exit, (1,)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")

    with pytest.raises(ValueError, match="not a file of plain tensors; pickled objects are never loaded"):
        load_image_weights(make_encoder(), tmp_path / "trap.pth")


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")

    with pytest.raises(ValueError, match=r"broken\.\w+ is not a"):
        load_image_weights(make_encoder(), tmp_path / name)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "weights": [1, 2]}, tmp_path / "other.pth")

    with pytest.raises(ValueError, match="holds no state_dict"):
        load_image_weights(make_encoder(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="there is no weights file"):
        load_image_weights(make_encoder(), tmp_path / "absent.pth")
