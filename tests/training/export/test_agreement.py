from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from models.bundle.load import load_bundle
from models.bundle.manifest import Prompts
from models.bundle.verify import verify_bundle
from tests.models.bundle.tiny_bundle import words
from training.export.torch_vectors import embed_in_torch

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


def mixed_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words(), size=rng.integers(1, 40))) for _ in range(count)]


def mixed_images(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    encoded: list[bytes] = []
    for _ in range(count):
        height, width = rng.integers(3, 60, 2)
        stream = BytesIO()
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(stream, "PNG")
        encoded.append(stream.getvalue())
    return encoded


def largest_difference(exported: Exported, items: Sequence[str | bytes], batch_size: int) -> float:
    encoder = load_bundle(exported.path).encoders[str(exported.source.modality)]
    prepared = [encoder.prepare(item) for item in items]
    found = np.concatenate(
        [encoder.run(prepared[start : start + batch_size]) for start in range(0, len(prepared), batch_size)]
    )
    return float(np.abs(found - embed_in_torch(exported.source, items, Prompts())).max())


@pytest.mark.parametrize("batch_size", [1, 2, 7, 60])
@pytest.mark.parametrize("encoder", ["transformer", "two_grus"])
def test_texts_of_mixed_length_agree_with_torch(request: pytest.FixtureRequest, encoder: str, batch_size: int) -> None:
    exported: Exported = request.getfixturevalue(encoder)
    tolerance = exported.manifest.encoders[0].golden.tolerance
    assert largest_difference(exported, mixed_texts(60), batch_size) <= tolerance / 20


@pytest.mark.parametrize("batch_size", [1, 5, 30])
def test_images_of_mixed_size_agree_with_torch(picture: Exported, batch_size: int) -> None:
    tolerance = picture.manifest.encoders[0].golden.tolerance
    assert largest_difference(picture, mixed_images(30), batch_size) <= tolerance / 20


@pytest.mark.parametrize("encoder", ["transformer", "two_grus", "picture"])
def test_every_bundle_verifies(request: pytest.FixtureRequest, encoder: str) -> None:
    exported: Exported = request.getfixturevalue(encoder)
    report = verify_bundle(exported.path)
    assert report.passed, report


def test_vectors_have_unit_length_and_tell_inputs_apart(transformer: Exported) -> None:
    vectors = np.load(transformer.path / "golden" / "vectors.npy")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.ptp(vectors, axis=0).max() > 0.1
