from __future__ import annotations

import logging
import warnings

import pytest
import torch

from training.config import Accelerator, DeviceConfig, FitConfig, Precision
from training.fit.environment import describe_environment, thread_count
from training.fit.lightning import build_trainer, compute_settings, quiet


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused_with_the_flag() -> None:
    with pytest.raises(ValueError, match="--accelerator gpu: torch finds no GPU"):
        build_trainer(FitConfig(device=DeviceConfig(accelerator=Accelerator.GPU)), max_steps=1, callbacks=[])
    with pytest.raises(ValueError, match="--precision fp16 needs a GPU"):
        build_trainer(FitConfig(device=DeviceConfig(precision=Precision.FP16)), max_steps=1, callbacks=[])


def test_settings_of_the_process_are_put_back() -> None:
    before = torch.get_num_threads()

    def crash() -> None:
        with compute_settings(DeviceConfig(), threads=before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert torch.get_num_threads() == before


def test_quiet_lets_other_warnings_through() -> None:
    level = logging.getLogger("pytorch_lightning").level

    with warnings.catch_warnings(action="error"), quiet():
        warnings.warn("Found 3 module(s) in eval mode at the start of training", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)

    assert logging.getLogger("pytorch_lightning").level == level


def test_threads_are_the_users_or_the_resumed_runs() -> None:
    assert thread_count(DeviceConfig(threads=3)) == 3
    assert thread_count(DeviceConfig(), recorded=5) == 5
    assert thread_count(DeviceConfig(devices=10_000)) == 1
    with pytest.raises(ValueError, match=r"--threads \(3\) differs from the run's \(5\)"):
        thread_count(DeviceConfig(threads=3), recorded=5)


def test_the_environment_names_what_the_result_depends_on() -> None:
    found = describe_environment(threads=2)

    assert found["threads"] == 2
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert "pytorch-lightning" in found["versions"]
