"""Two gloo processes with different data against one process with all of it (see `distributed_worker.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.distributed import gather, gather_with_gradient, rank, world_size
from training.methods.table import METHODS

Cases = dict[str, dict[str, Tensor]]

WORKER = Path(__file__).parent / "distributed_worker.py"
LOSSES = ["nt_xent", "quick_thoughts", "pairwise_logistic", "mean_shift"]
# What these draw for themselves, per image, is not the same in two processes; no image of theirs meets another.
DRAWN = frozenset({"jigsaw", "patch-location", "inpainting", "autoencoder", "self-training"})
# Shares of the largest value. Without BatchNorm the columns that Barlow Twins standardises have almost no variance, and
# the division magnifies rounding.
ROUNDED = {"barlow-twins": 5e-5}
IMAGE_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "image" and entry.name not in DRAWN]
TEXT_METHODS = [entry.name for entry in METHODS.values() if entry.modality == "text"]
CASES = [*IMAGE_METHODS, *TEXT_METHODS, "quick-thoughts logistic", "quick-thoughts tied"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cases, Cases, Cases]:
    """What the single process, rank 0 and rank 1 computed."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(WORKER.parents[2])}
    outputs = [folder / "first.pt", folder / "second.pt"]
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(place), str(folder / "store"), str(output)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place, output in enumerate(outputs)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=400)
        assert worker.returncode == 0, errors
    first, second = (torch.load(output, weights_only=True) for output in outputs)
    return first["single"], first["rank"], second["rank"]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_equal_one_process(results: tuple[Cases, Cases, Cases], name: str) -> None:
    single, *ranks = (case[f"loss {name}"] for case in results)
    gradients = torch.cat([each["gradients"] for each in ranks], dim=1)
    torch.testing.assert_close(gradients, single["gradients"], rtol=1e-5, atol=1e-7)
    for each in ranks:
        torch.testing.assert_close(each["loss"], single["loss"], rtol=1e-5, atol=0)
    halves = single["gradients"].chunk(2, dim=1)
    assert (halves[0] - halves[1]).abs().max() > 1e-3  # equal ranks would hide a missing reduction


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_a_method_equals_one_process(results: tuple[Cases, Cases, Cases], name: str) -> None:
    single, *ranks = (case[f"method {name}"] for case in results)
    assert any(key.startswith("gradient.") for key in single)
    for each in ranks:
        assert each.keys() == single.keys()
        for key, expected in single.items():
            if not key.startswith("bank."):
                tolerance = max(1e-6, ROUNDED.get(name, 0) * float(expected.abs().max()))
                assert torch.allclose(each[key], expected, rtol=1e-5, atol=tolerance), key


def test_banks_hold_the_same_rows_on_every_rank(results: tuple[Cases, Cases, Cases]) -> None:
    single, *ranks = results
    banks = [(name, key) for name, case in single.items() for key in case if key.startswith("bank.")]
    assert ("method mean-shift", "bank.bank.index") in banks
    for name, key in banks:
        for each in ranks:
            torch.testing.assert_close(each[name][key], single[name][key], rtol=1e-5, atol=1e-6)


def test_without_a_process_group_one_process_is_the_world() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert gather_with_gradient(rows) is rows
    assert not gather(rows).requires_grad
