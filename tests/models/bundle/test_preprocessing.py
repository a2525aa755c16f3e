from __future__ import annotations

from typing import Any

import pytest

from models.bundle.preprocessing import ImagePreprocessing, Resize


@pytest.mark.parametrize(
    "preprocessing",
    [
        ImagePreprocessing(size_px=32, background=(1, 2, 3)),
        ImagePreprocessing(size_px=32, jpeg_draft=True),
        ImagePreprocessing(size_px=224, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), resize=Resize.CROP),
        ImagePreprocessing(size_px=224, resize=Resize.CROP, shortest_edge_px=256),
    ],
)
def test_it_survives_its_file(preprocessing: ImagePreprocessing) -> None:
    assert ImagePreprocessing.from_config(preprocessing.to_config()) == preprocessing


def test_at_another_size_the_same_share_is_cut_away() -> None:
    cropping = ImagePreprocessing(size_px=224, resize=Resize.CROP, shortest_edge_px=256, mean=(0.1, 0.2, 0.3))

    larger = cropping.at_size(448)

    assert (larger.size_px, larger.shortest_edge_px, larger.mean) == (448, 512, (0.1, 0.2, 0.3))
    assert ImagePreprocessing(size_px=32).at_size(48) == ImagePreprocessing(size_px=48)


def test_a_file_of_hugging_face_is_read() -> None:
    config = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    wanted = ImagePreprocessing(size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert ImagePreprocessing.from_config(config) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 2}, "resample = 2; only 3 is supported"),
        ({"do_normalize": False}, "do_normalize = False"),
        ({"rescale_factor": 1.0}, "rescale_factor = 1.0; only 1/255"),
        ({"size": {"height": 4, "width": 5}}, "only squares are supported"),
    ],
)
def test_what_is_not_done_here_is_refused(change: dict[str, Any], message: str) -> None:
    config = {**ImagePreprocessing(size_px=4).to_config(), **change}
    with pytest.raises(ValueError, match=message):
        ImagePreprocessing.from_config(config)


def test_a_missing_field_is_named() -> None:
    config = ImagePreprocessing(size_px=4).to_config()
    del config["image_std"]
    with pytest.raises(ValueError, match="has no image_std"):
        ImagePreprocessing.from_config(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_px": 0}, r"size_px \(0\) must be at least 1"),
        ({"std": (0.0, 1.0, 1.0)}, "must be above 0"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "finite"),
        ({"background": (0, 0, 256)}, r"must lie in \[0, 255\]"),
        ({"shortest_edge_px": 3}, r"shortest_edge_px \(3\) must be at least size_px \(4\)"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImagePreprocessing(**{"size_px": 4, **values})
