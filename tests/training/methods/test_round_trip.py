"""A method that is saved and restored goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.methods.pictures import SIZE_PX, learn_by_itself, small_encoder
from training.fit.method_settings import method_config
from training.methods.base import Method, MethodContext
from training.methods.table import METHODS

# A bank of 200 with batches of 64 is left in the middle of a wrap; six steps are a pass.
CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX, class_count=4)
IMAGE_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "image"]


def build(name: str, *, seed: int) -> Method:
    entry = METHODS[name]
    config = method_config(entry, entry.recipe().settings)
    method: Method = entry.load()(small_encoder(seed=seed), config, context=CONTEXT)
    return method


def build_optimiser(method: Method) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.02, momentum=0.9)


@pytest.mark.parametrize("name", IMAGE_METHODS)
def test_the_next_steps_are_identical_after_a_restore(name: str, tmp_path: Path) -> None:
    method = build(name, seed=0)
    optimiser = build_optimiser(method)
    learn_by_itself(method, optimiser, steps=range(4))
    torch.save({"method": method.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "last.ckpt")

    restored = build(name, seed=7)
    resumed = build_optimiser(restored)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    restored.load_state_dict(saved["method"])
    resumed.load_state_dict(saved["optimiser"])

    for step in (4, 5, 6):  # over a pass's end
        expected = learn_by_itself(method, optimiser, steps=range(step, step + 1))
        found = learn_by_itself(restored, resumed, steps=range(step, step + 1))
        assert found.loss.item() == expected.loss.item()
    for key, value in method.state_dict().items():
        assert torch.equal(torch.as_tensor(restored.state_dict()[key]), torch.as_tensor(value)), key


@pytest.mark.parametrize("name", IMAGE_METHODS)
def test_every_part_that_is_trained_gets_a_gradient(name: str) -> None:
    method = build(name, seed=0)
    optimiser = build_optimiser(method)

    output = learn_by_itself(method, optimiser, steps=range(8))

    assert torch.isfinite(output.loss)
    assert output.loss.dtype == torch.float32
    assert not output.projections.requires_grad
    still = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == [key for key in still if key.endswith("bias")]  # a bias before a norm moves nothing
    named = [p for group in method.param_groups() for p in group["params"]]
    assert len(named) == len(set(named))
