"""`diptych train text` and `diptych train image`: learn an encoder, and leave it in a run folder."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.train_flags import OptimiserFlags, TextEncoderFlags, methods_help
from models.config import IMAGE_ARCHITECTURES, ImageEncoderConfig, Normalization
from training.config import DeviceConfig, FitConfig, LoopConfig
from training.fit.method_settings import parse_settings
from training.methods.recipes import RecipeName
from training.methods.table import find_method
from training.run_config import ImageRunConfig, LabelConfig, TextRunConfig, TokenizerConfig

if TYPE_CHECKING:
    from training.fit.fit import FitResult

__all__ = ["TrainImage", "TrainText"]

_flat = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues)


@_flat
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainText:
    """Learns a sentence encoder from texts alone, such as from which sentences stand next to each other; no labels.

    A Ctrl-C leaves a run that --resume takes up where it stopped, with the same result as if it had not.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A text pack, a .txt or .jsonl file, a folder of those, or a set of `diptych data list` such as wiki."""
    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's folder, new or empty."""
    method: Annotated[str, tyro.conf.arg(help=methods_help("text"))] = "quick-thoughts"
    set: tuple[str, ...] = ()
    """Settings of the method as NAME=VALUE; an unknown name lists those there are."""
    recipe: RecipeName | None = None
    """Where the flags below that are not given come from. scratch: what learns most in minutes to hours on one machine
    (the default). adapt: for trained weights (the default with --init). paper: the authors' settings."""
    init: Path | None = None
    """A Hugging Face or sentence-transformers directory to start from, tokenizer included; f and g are then one."""
    freeze: int = 0
    """With --init: layers held still, from the input; -1: all."""
    batch_size: int | None = None
    """Sentences per step and device: for quick-thoughts a block of contiguous ones."""
    fixed_order: bool = False
    """quick-thoughts: keep the documents in the corpus's order; by default each epoch has its own."""
    encoder: TextEncoderFlags = field(default_factory=TextEncoderFlags)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimiser: OptimiserFlags = field(default_factory=OptimiserFlags)
    loop: LoopConfig = field(default_factory=LoopConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    resume: bool = False
    """Go on with the unfinished run in the folder; give the same flags."""
    overwrite: bool = False
    """Replace the run that is in the folder."""

    def run(self) -> int:
        """Trains, and says what came of it."""
        recipe = find_method(self.method).recipe(self.recipe, pretrained=self.init is not None)
        config = TextRunConfig(
            data=self.source,
            out=self.run_folder,
            method=self.method,
            settings={**recipe.settings, **parse_settings(self.set)},
            encoder=self.encoder.over(recipe.text_encoder, pretrained=self.init is not None),
            tokenizer=self.tokenizer,
            init=self.init,
            freeze=self.freeze,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            fit=FitConfig(optimiser=self.optimiser.over(recipe.optimiser), loop=self.loop, device=self.device),
            shuffle_documents=not self.fixed_order,
        )
        from training.fit.fit_text import fit_text
        from training.fit.reporting import TerminalReporter

        with TerminalReporter() as reporter:
            return _conclude(fit_text(config, reporter=reporter, resume=self.resume, overwrite=self.overwrite))


@_flat
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainImage:
    """Learns an image encoder from the pictures themselves; some methods use the labels of a few, or of all.

    A Ctrl-C leaves a run that --resume takes up where it stopped, with the same result as if it had not.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """An image pack, a folder of images, or a set of `diptych data list` such as emoji."""
    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's folder, new or empty."""
    method: Annotated[str, tyro.conf.arg(help=methods_help("image"))] = "simclr"
    set: tuple[str, ...] = ()
    """Settings of the method as NAME=VALUE; an unknown name lists those there are."""
    architecture: Annotated[str, tyro.conf.arg(help=f"Encoder: {', '.join(IMAGE_ARCHITECTURES)}.")] = "tiny-resnet"
    image_size_px: int | None = None
    """Side of the square the encoder sees; None: the pack's, or 32."""
    recipe: RecipeName | None = None
    """Where the flags below that are not given come from. scratch: what learns most in minutes to hours on one machine
    (the default). adapt: for trained weights (the default with --init). paper: the authors' settings."""
    init: Path | None = None
    """Weights to start from: safetensors, or a torch file of tensors only."""
    normalization: Normalization | None = None
    """How pixels are normalised, as the start wants it; None: symmetric for efficientnet-lite0, else imagenet."""
    freeze: int = 0
    """With --init: layers held still, from the input; -1: all."""
    batch_size: int | None = None
    """Images per step and device."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    teacher: Path | None = None
    """self-training: a finished run by supervised or self-training, whose predictions are learnt; where not given, one
    is trained first."""
    optimiser: OptimiserFlags = field(default_factory=OptimiserFlags)
    loop: LoopConfig = field(default_factory=LoopConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    resume: bool = False
    """Go on with the unfinished run in the folder; give the same flags."""
    overwrite: bool = False
    """Replace the run that is in the folder."""

    def run(self) -> int:
        """Trains, and says what came of it."""
        size_px = self.image_size_px or _pack_size_px(self.source) or 32
        recipe = find_method(self.method).recipe(self.recipe, pretrained=self.init is not None)
        config = ImageRunConfig(
            data=self.source,
            out=self.run_folder,
            method=self.method,
            settings={**recipe.settings, **parse_settings(self.set)},
            encoder=ImageEncoderConfig(architecture=self.architecture, image_size_px=size_px),
            init=self.init,
            normalization=self.normalization,
            freeze=self.freeze,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            labels=self.labels,
            teacher=self.teacher,
            fit=FitConfig(optimiser=self.optimiser.over(recipe.optimiser), loop=self.loop, device=self.device),
        )
        from training.fit.fit_image import fit_image
        from training.fit.reporting import TerminalReporter

        with TerminalReporter() as reporter:
            return _conclude(fit_image(config, reporter=reporter, resume=self.resume, overwrite=self.overwrite))


def _pack_size_px(source: Path) -> int | None:
    """Returns the side of a pack's images; None where the source is no image pack."""
    try:
        size_px = json.loads((source / "pack.json").read_text(encoding="utf-8")).get("size_px")
    except (OSError, ValueError):
        return None
    return size_px if isinstance(size_px, int) else None


def _conclude(result: FitResult) -> int:
    """Prints the run's folder to stdout, and its last figures and what to do next to stderr."""
    from training.fit.fit import is_first_process
    from training.fit.rehearsal import describe_duration

    if is_first_process():
        folder = result.folder.path
        shown = {name: value for name, value in result.metrics.items() if name not in {"step", "epoch"}}
        figures = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        print(f"{result.steps} steps, {describe_duration(result.seconds)}: {figures}", file=sys.stderr)
        print(f"next: diptych export {shlex.quote(str(folder))} bundles/{folder.name}", file=sys.stderr)
        print(folder)
    return 0
