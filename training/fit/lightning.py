"""Lightning's trainer, set up for one run, and kept from talking."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from training.config import Accelerator, DeviceConfig, FitConfig, Precision
from training.fit.checkpoints import AtomicCheckpointIO

__all__ = ["build_trainer", "compute_settings", "quiet"]

_PRECISIONS: dict[Precision, Any] = {
    Precision.FP32: "32-true",
    Precision.BF16: "bf16-mixed",
    Precision.FP16: "16-mixed",
}
_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning")


def build_trainer(config: FitConfig, *, max_steps: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Sets up the loop: no logger, no bar, no checkpoints but ours.

    Args:
        config: The loop's part of a run's configuration.
        max_steps: Steps of the whole run.
        callbacks: What happens around the steps, in this order.

    Returns:
        The trainer.

    Raises:
        ValueError: The device that was asked for is not there.
    """
    accelerator = _accelerator(config.device)
    several = config.device.devices > 1
    backend = "gloo" if accelerator == "cpu" else "nccl"
    return pl.Trainer(
        accelerator=accelerator,
        devices=config.device.devices,
        # Banks are equal on all ranks by construction: sending them round before each step would be waste.
        strategy=DDPStrategy(process_group_backend=backend, broadcast_buffers=False) if several else "auto",
        precision=_PRECISIONS[config.device.precision],
        max_steps=max_steps,
        max_epochs=1,
        gradient_clip_val=config.optimiser.gradient_clip or None,
        deterministic=config.device.deterministic,
        sync_batchnorm=several and accelerator == "gpu",
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's tips and banners off the screen, and its warnings about what is meant to be so."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Lightning's own use of torch's trees; nothing of ours can change it.
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated", category=FutureWarning)
            # Older torch, which is supported too, knows no other name for it.
            warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated")
            # Frozen layers are in evaluation mode on purpose.
            warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode", category=UserWarning)
            # A CPU was asked for, or is the sensible default for a small run.
            warnings.filterwarnings("ignore", message=r"GPU available but not used", category=UserWarning)
            # The loader is no DataLoader: it reads ahead in threads of its own.
            warnings.filterwarnings("ignore", message=r".*does not have many workers", category=UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def compute_settings(config: DeviceConfig, threads: int) -> Iterator[None]:
    """Sets torch's process-wide settings for a run, and puts them back.

    Args:
        config: The device's part of a run's configuration.
        threads: CPU threads.

    Yields:
        Nothing.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    benchmark_before = torch.backends.cudnn.benchmark
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        if config.deterministic:
            torch.use_deterministic_algorithms(deterministic_before)
        torch.backends.cudnn.benchmark = benchmark_before


def _accelerator(config: DeviceConfig) -> str:
    available = torch.cuda.is_available()
    if config.accelerator is Accelerator.GPU and not available:
        raise ValueError("--accelerator gpu: torch finds no GPU here; take --accelerator cpu")
    if config.accelerator is Accelerator.CPU or not available:
        if config.precision is Precision.FP16:
            raise ValueError("--precision fp16 needs a GPU, and torch finds none; take bf16 or fp32")
        return "cpu"
    if config.devices > torch.cuda.device_count():
        raise ValueError(f"--devices ({config.devices}) exceeds the GPUs there are ({torch.cuda.device_count()})")
    return "gpu"
