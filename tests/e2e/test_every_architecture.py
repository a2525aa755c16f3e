"""Every architecture, from training through export and verification to a real server and a real client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych import Client
from diptych.cli.main import main
from models.bundle.pixels import normalise_image
from models.config import IMAGE_ARCHITECTURES
from tests.e2e.command_server import command_server
from tests.training.corpora.pictures import noise, png
from tests.training.evaluation.tiny_runs import make_text_pack
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import write_image_pack
from training.corpora.splits import SplitFractions
from training.run_folder import load_run

pytestmark = pytest.mark.slow

TEXT_ARCHITECTURES = ("gru", "transformer")
SIZE_PX = 32
SENTENCES = ["The river runs to the sea.", "Copper!", "A longer sentence, with a comma and some more words in it."]
STEPS = ("--max-steps", "2", "--threads", "2", "--accelerator", "cpu", "--collapse-threshold", "0")


def diptych(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `runs/NAME` and `bundles/NAME` of every architecture."""
    root = tmp_path_factory.mktemp("architectures")
    items = [ImageItem(f"{number}", png(noise(number, SIZE_PX, SIZE_PX))) for number in range(24)]
    fractions = SplitFractions(validation=0.1, test=0.1)
    write_image_pack(items, root / "images", size_px=SIZE_PX, source="noise", fractions=fractions)
    make_text_pack(root / "texts")
    for name in IMAGE_ARCHITECTURES:
        words = ("--architecture", name, "--method", "simclr", "--batch-size", "8")
        diptych("train", "image", root / "images", root / "runs" / name, *words, *STEPS)
    for name in TEXT_ARCHITECTURES:
        words = ("--architecture", name, "--batch-size", "16", "--vocab-size", "300")
        diptych("train", "text", root / "texts", root / "runs" / name, *words, *STEPS)
    for name in (*IMAGE_ARCHITECTURES, *TEXT_ARCHITECTURES):
        diptych("export", root / "runs" / name, root / "bundles" / name)
        diptych("verify", root / "bundles" / name)
    return root


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        command_server([sys.executable, "-m", "diptych.cli.main"], folder=folder) as address,
        Client(address) as found,
    ):
        found.wait_until_ready(120)
        yield found


@pytest.mark.parametrize("name", IMAGE_ARCHITECTURES)
def test_an_image_encoder_is_served_as_it_was_trained(name: str, folder: Path, client: Client) -> None:
    pictures = [noise(100 + number, SIZE_PX, SIZE_PX) for number in range(3)]
    found = client.embed(images=[png(picture) for picture in pictures], encoder=name).vectors

    run = load_run(folder / "runs" / name)
    assert run.preprocessing is not None
    pixels = torch.from_numpy(np.stack([normalise_image(picture, run.preprocessing) for picture in pictures]))
    with torch.inference_mode():
        expected = run.served(pixels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.linalg.norm(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize("name", TEXT_ARCHITECTURES)
def test_a_sentence_encoder_is_served_as_it_was_trained(name: str, folder: Path, client: Client) -> None:
    found = client.embed(SENTENCES, encoder=name).vectors

    run = load_run(folder / "runs" / name)
    assert run.tokenizer is not None
    ids, mask = run.tokenizer.pad([token.ids for token in run.tokenizer.encode_batch(SENTENCES, max_tokens=64)])
    with torch.inference_mode():
        expected = run.served(torch.from_numpy(ids), torch.from_numpy(mask))[1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.linalg.norm(found[0] - found[1]) > 1e-3
