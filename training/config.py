"""What a training run is asked to do, in words that load no torch: read by the command, saved in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from models.config import ImageEncoderConfig, Normalization, TextEncoderConfig

__all__ = [
    "SCHEMA_VERSION",
    "Accelerator",
    "DeviceConfig",
    "FitConfig",
    "ImageRunConfig",
    "LabelConfig",
    "LoopConfig",
    "OptimiserConfig",
    "OptimiserName",
    "Precision",
    "Schedule",
    "TextRunConfig",
    "TokenizerConfig",
    "TokenizerKind",
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


class TokenizerKind(StrEnum):
    """Ways to cut words that are learnt from the training documents."""

    WORDPIECE = "wordpiece"
    BPE = "bpe"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """A tokenizer trained from scratch, on the training documents only."""

    tokenizer_kind: TokenizerKind = TokenizerKind.WORDPIECE
    """wordpiece or bpe."""
    vocab_size: int = 16_384
    """Most entries; a small corpus gives fewer."""
    lowercase: bool = True
    """Whether case and accents are dropped."""
    min_frequency: int = 2
    """Pairs seen less often are not merged."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.vocab_size < 300:
            raise ValueError(f"--vocab-size ({self.vocab_size}) must be >= 300: characters alone need that many")
        if self.min_frequency < 1:
            raise ValueError(f"--min-frequency ({self.min_frequency}) must be >= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRunConfig:
    """One training run of a sentence encoder; `training.methods.recipes` has what suits a method and a start."""

    data: Path
    """A text pack."""
    out: Path
    """The run's folder."""
    method: str = "quick-thoughts"
    """Name in `training.methods.table`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings that differ from its defaults."""
    encoder: TextEncoderConfig | None = None
    """Shape of the encoder, whose `vocab_size` follows the tokenizer; None: a GRU, or, with `init`, what the directory
    says."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How the tokenizer is trained; unused with `init`."""
    init: Path | None = None
    """A Hugging Face or sentence-transformers directory to start from, tokenizer included; f and g are then one."""
    freeze: int = 0
    """Layers held still, from the input; -1: all."""
    batch_size: int = 400
    """Sentences per step and device: a block of contiguous ones."""
    fit: FitConfig = FitConfig()
    """The training loop's part."""
    shuffle_documents: bool = True
    """Whether documents come in another order each epoch; sentences never do."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        _check_start(self.init, self.freeze, self.batch_size)
        if self.init is not None and self.encoder is not None:
            raise ValueError("--init says what the encoder is; leave out --architecture, --width and the like")
        if self.init is not None and self.tokenizer != TokenizerConfig():
            raise ValueError("--init brings its tokenizer; leave out --tokenizer-kind, --vocab-size and the like")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """Which labels a method that uses some may see; the others are withheld from it."""

    labels_per_class: int | None = None
    """Labelled images of every class; None: all there are."""
    label_fraction: float | None = None
    """Share of every class's labels, in (0, 1]; not together with --labels-per-class."""
    label_seed: int = 0
    """Another seed shows other ones."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        if self.labels_per_class is not None and self.label_fraction is not None:
            raise ValueError("--labels-per-class and --label-fraction exclude each other; give one")
        if self.labels_per_class is not None and self.labels_per_class < 1:
            raise ValueError(f"--labels-per-class ({self.labels_per_class}) must be >= 1")
        if self.label_fraction is not None and not 0 < self.label_fraction <= 1:
            raise ValueError(f"--label-fraction ({self.label_fraction}) must be in (0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRunConfig:
    """One training run of an image encoder; `training.methods.recipes` has what suits a method and a start."""

    data: Path
    """An image pack."""
    out: Path
    """The run's folder."""
    method: str = "simclr"
    """Name in `training.methods.table`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings that differ from its defaults."""
    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """Shape of the encoder."""
    init: Path | None = None
    """Weights to start from: safetensors, or a torch file of tensors only."""
    normalization: Normalization | None = None
    """How pixels are normalised; None: symmetric for efficientnet-lite0, as its weights want it, else imagenet."""
    freeze: int = 0
    """Layers held still, from the input; -1: all."""
    batch_size: int = 256
    """Images per step and device."""
    labels: LabelConfig = LabelConfig()
    """Which labels a method that uses some may see."""
    fit: FitConfig = FitConfig()
    """The training loop's part."""

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        _check_start(self.init, self.freeze, self.batch_size)


def _check_start(init: Path | None, freeze: int, batch_size: int) -> None:
    if batch_size < 2:
        raise ValueError(f"--batch-size ({batch_size}) must be >= 2: one item has nothing to be compared with")
    if freeze < -1:
        raise ValueError(f"--freeze ({freeze}) must be a number of layers, or -1 for all")
    if freeze != 0 and init is None:
        raise ValueError(f"--freeze ({freeze}) holds still what was learnt before; it needs --init")
