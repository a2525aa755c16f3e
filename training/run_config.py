"""What a training run is asked to do. Torch-free: read by the command, saved in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.config import ImageEncoderConfig, Normalization, TextEncoderConfig
from training.config import FitConfig

__all__ = ["ImageRunConfig", "LabelConfig", "TextRunConfig", "TokenizerConfig", "TokenizerKind"]


class TokenizerKind(StrEnum):
    """Ways to cut words that are learnt from the training documents."""

    WORDPIECE = "wordpiece"
    BPE = "bpe"


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
    """Sentences per step and device: a block of contiguous ones, or, for a method that wants them shuffled, any."""
    fit: FitConfig = field(default_factory=FitConfig)
    """The training loop's part."""
    shuffle_documents: bool = True
    """Whether documents come in another order each epoch, each one's sentences in their own; only for blocks."""

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
    teacher: Path | None = None
    """Finished run with a classifier, by `supervised` or `self-training`, whose predictions are learnt."""
    fit: FitConfig = field(default_factory=FitConfig)
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
