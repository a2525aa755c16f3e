"""What the training loop is told, whatever is trained. Torch-free: read by the command, saved in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "SCHEMA_VERSION",
    "Accelerator",
    "DeviceConfig",
    "FitConfig",
    "LoopConfig",
    "OptimiserConfig",
    "OptimiserName",
    "Precision",
    "Schedule",
]

SCHEMA_VERSION: Final = 1
"""Version of a run folder's `config.json`."""


class OptimiserName(StrEnum):
    """Ways to turn a gradient into a step."""

    SGD = "sgd"
    """With momentum."""
    ADAMW = "adamw"
    """Adam with decoupled weight decay; Adam where the decay is 0."""
    LARS = "lars"
    """SGD with a rate per layer, for very large batches; biases and norms keep the plain rate."""


class Schedule(StrEnum):
    """How the learning rate goes after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    """Half a cosine from the full rate to 0, per step."""


class Precision(StrEnum):
    """Number format of the encoder's arithmetic; losses are always fp32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    """With loss scaling; needs a GPU."""


class Accelerator(StrEnum):
    """Kind of device."""

    AUTO = "auto"
    """A GPU where there is one."""
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """How parameters are changed. Biases and norms (1-D parameters) are kept from weight decay."""

    optimiser: OptimiserName = OptimiserName.ADAMW
    """sgd, adamw or lars."""
    learning_rate: float = 5e-4
    """Full rate, after the warm-up; > 0."""
    momentum: float = 0.9
    """Of sgd and lars, in [0, 1)."""
    weight_decay: float = 0.0
    """>= 0."""
    schedule: Schedule = Schedule.CONSTANT
    """constant or cosine."""
    warmup_steps: float = 0
    """Steps in which the rate rises linearly from near 0; below 1 it is a share of the run's steps; >= 0."""
    gradient_clip: float = 0.0
    """Largest global norm of the gradient; 0 does not clip."""
    backbone_lr_scale: float = 1.0
    """Factor on the rate of the encoder's parameters, beside the heads'; >= 0."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not self.learning_rate > 0:
            raise ValueError(f"--learning-rate ({self.learning_rate}) must be > 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum ({self.momentum}) must be in [0, 1)")
        for name in ("weight_decay", "warmup_steps", "gradient_clip", "backbone_lr_scale"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{name.replace('_', '-')} ({getattr(self, name)}) must be >= 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long, and what is noted on the way."""

    epochs: int | None = None
    """Passes over the data; not together with `max_steps`."""
    max_steps: int | None = None
    """Steps of the optimiser; 2000 where `epochs` is not given either."""
    seed: int = 0
    """Of the weights, the order, the views and the dropout."""
    log_every_steps: int = 10
    """Steps between two rows of metrics.csv."""
    checkpoint_every_steps: int = 200
    """Steps between two writes of last.ckpt; one is written at the end and at an interruption too."""
    evaluate_every_steps: int = 0
    """Steps between two measurements on the validation split; 0: ten in the whole run."""
    collapse_threshold: float = 0.02
    """The run is stopped where the spread of the projections falls below this (1 is healthy, 0 is collapsed) after a
    tenth of the steps; 0 never stops it."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError(
                f"--epochs ({self.epochs}) and --max-steps ({self.max_steps}) exclude each other; give one"
            )
        for name in ("epochs", "max_steps", "log_every_steps", "checkpoint_every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} ({value}) must be >= 1")
        if self.evaluate_every_steps < 0:
            raise ValueError(f"--evaluate-every-steps ({self.evaluate_every_steps}) must be >= 0")
        if not 0 <= self.collapse_threshold < 1:
            raise ValueError(f"--collapse-threshold ({self.collapse_threshold}) must be in [0, 1)")

    def steps(self, steps_per_epoch: int) -> int:
        """Returns the steps of the whole run.

        Args:
            steps_per_epoch: Steps of one pass over the data.

        Returns:
            At least 1.
        """
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return 2000 if self.max_steps is None else self.max_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceConfig:
    """What the run computes on."""

    accelerator: Accelerator = Accelerator.AUTO
    """auto, cpu or gpu."""
    devices: int = 1
    """Processes of this machine, one device each; negatives are gathered over all of them."""
    precision: Precision = Precision.FP32
    """fp32, bf16 or fp16."""
    deterministic: bool = False
    """Refuses operations whose result may differ from run to run; a CPU has none that matter, a GPU is slower."""
    threads: int | None = None
    """CPU threads of each process; None: torch's own choice, which is recorded. Equal results need an equal number."""
    workers: int = 2
    """Threads that read and decode images ahead of the step."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        for name in ("devices", "threads", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} ({value}) must be >= 1")
        if self.precision is Precision.FP16 and self.accelerator is Accelerator.CPU:
            raise ValueError("--precision fp16 needs a GPU, and --accelerator is cpu; take bf16 or fp32")


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """All that the training loop itself is told, whatever is trained."""

    optimiser: OptimiserConfig = OptimiserConfig()
    """How parameters are changed."""
    loop: LoopConfig = LoopConfig()
    """How long, and what is noted."""
    device: DeviceConfig = DeviceConfig()
    """What it computes on."""
