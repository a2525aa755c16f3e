"""A method that is saved and restored goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.methods.pictures import SIZE_PX, image_batch, learn, small_encoder
from training.methods.base import Method, MethodContext, Progress
from training.methods.configs import MeanShiftConfig
from training.methods.table import METHODS

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
IMAGE_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "image"]


def build(name: str, *, seed: int) -> Method:
    entry = METHODS[name]
    # A bank of 150 with batches of 64 is left in the middle of a wrap.
    config = MeanShiftConfig(bank_size=150) if name == "mean-shift" else entry.load_config()()
    method: Method = entry.load()(small_encoder(seed=seed), config, context=CONTEXT)
    return method


@pytest.mark.parametrize("name", IMAGE_METHODS)
def test_the_next_steps_loss_is_identical_after_a_restore(name: str, tmp_path: Path) -> None:
    method = build(name, seed=0)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    learn(method, optimiser, method.views(), steps=range(3))
    torch.save({"method": method.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "last.ckpt")

    restored = build(name, seed=7)
    resumed = torch.optim.SGD(restored.parameters(), lr=0.05, momentum=0.9)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    before = restored.loss(image_batch(method.views(), count=64, step=3), Progress(step=3, max_steps=200, epoch=0))
    restored.load_state_dict(saved["method"])
    resumed.load_state_dict(saved["optimiser"])

    for step in (3, 4):
        expected = learn(method, optimiser, method.views(), steps=range(step, step + 1))
        found = learn(restored, resumed, method.views(), steps=range(step, step + 1))
        assert found.loss.item() == expected.loss.item()
        assert found.loss.item() != before.loss.item()
    for key, value in method.state_dict().items():
        assert torch.equal(restored.state_dict()[key], value), key
