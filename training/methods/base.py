"""What a method is: its encoder, the views it wants, its loss, and what it does after a step.

A method knows nothing of loops, devices, loggers or checkpoints; `training.fit` owns those. Its queues, caches and EMA
copies are buffers or submodules, so that a checkpoint of its `state_dict` is a checkpoint of the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from training.methods.recipes import Recipes
from training.views.spec import ViewSpec

__all__ = [
    "ImageBatch",
    "LossOutput",
    "Method",
    "MethodContext",
    "Needs",
    "Progress",
    "Support",
    "SupportSpec",
    "TextBatch",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a method asks of the data; checked before training starts."""

    index: bool = False
    """Uses `batch.index`, the item's place in the data set."""
    labels: bool = False
    """Uses `batch.label`; images whose label is withheld have -1 there."""
    every_label: bool = False
    """Trains on labelled images alone."""
    teacher: bool = False
    """Is trained in generations: learns what an earlier run, the teacher, says of the training images."""
    shuffled: bool = False
    """Texts: wants sentences in random order; otherwise a step is a block of contiguous ones."""
    dataset_size: bool = False
    """Its state is sized by the data set, or must be smaller than it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodContext:
    """What a method is told of the run it is built for."""

    dataset_size: int
    """Items in training."""
    batch_size: int
    """Items of a step, over all ranks."""
    image_size_px: int = 0
    """Side of the views; 0 for texts."""
    class_count: int = 0
    """Classes of the labels; 0 where the method needs none."""
    predictions: Tensor | None = None
    """`[dataset_size, class_count]` fp32: a teacher's chances of each image's class, zeros where the label is shown;
    only for a method that needs a teacher, and None where there is none yet."""
    special_ids: tuple[int, ...] = ()
    """Texts: ids that the tokenizer puts around every text, such as [CLS] and [SEP]; no word's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportSpec:
    """Labelled images that a method wants beside each batch: as many of every class, drawn anew each step."""

    images_per_class: int
    """At least 1; an image comes twice where a class has fewer."""
    views: tuple[ViewSpec, ...]
    """How each of them is shown."""

    def __post_init__(self) -> None:
        if self.images_per_class < 1:
            raise ValueError(f"images_per_class ({self.images_per_class}) must be >= 1")


@dataclass(frozen=True, slots=True)
class Support:
    """Labelled images beside a batch, on the training device."""

    views: tuple[Tensor, ...]
    """One `[m, 3, h, w]` float tensor, normalised, per `ViewSpec` of the support."""
    label: Tensor
    """`[m]` int64 in [0, classes): 0, 1, ..., classes - 1, 0, 1, ...: the classes interleaved."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where in the training a step stands."""

    step: int
    """Steps done before this one, from 0."""
    max_steps: int
    epoch: int
    """Whole passes over the data done before this one, from 0."""
    step_in_epoch: int = 0
    """Steps of this pass done before this one."""
    steps_per_epoch: int = 1
    """Steps of a pass."""

    @property
    def fraction(self) -> float:
        """How much of the training lies behind, in [0, 1)."""
        return self.step / self.max_steps


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Views of `n` images, on the training device."""

    views: tuple[Tensor, ...]
    """One `[n, 3, h, w]` float tensor, normalised, per `ViewSpec` of the method."""
    index: Tensor
    """`[n]` int64: each image's place in the data set."""
    label: Tensor | None = None
    """`[n]` int64, only for a method that needs labels; -1 where there is none, or it is withheld."""
    support: Support | None = None
    """Labelled images, only for a method that asked for them."""


@dataclass(frozen=True, slots=True)
class TextBatch:
    """`n` sentences, on the training device: a block of contiguous ones, unless the method wants them shuffled."""

    input_ids: Tensor
    """`[n, t]` int64, padded."""
    attention_mask: Tensor
    """`[n, t]` int64: 1 for tokens, 0 for padding."""
    document: Tensor
    """`[n]` int64: number of the document each sentence is from; adjacency ends where it changes."""
    sentence: Tensor
    """`[n]` int64: equal exactly where the sentences' texts are equal, in the whole corpus and on every rank."""
    index: Tensor
    """`[n]` int64: place in the corpus; i and i+1 of one document are neighbours."""


@dataclass(frozen=True, slots=True)
class LossOutput:
    """What one step gives back."""

    loss: Tensor
    """Scalar, fp32."""
    projections: Tensor
    """`[n, d]`, detached: what the loss compared; collapse is judged on them."""
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Further scalars for the log."""


class Method(nn.Module, ABC):
    """A way to learn without labels."""

    needs: ClassVar[Needs] = Needs()
    config_type: ClassVar[type[Any]]
    """Its settings: a frozen dataclass that without arguments holds the paper's."""
    recipes: ClassVar[Recipes] = {}
    """What its runs are told where the user says nothing."""
    encoder: nn.Module
    """What is kept after training."""

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the views each image is shown as; empty for texts."""
        return ()

    def support(self) -> SupportSpec | None:
        """Returns the labelled images wanted beside each batch; none by default."""
        return None

    def kept_heads(self) -> Mapping[str, nn.Module]:
        """Returns parts beside the encoder that a finished run keeps, by the name of their file; none by default."""
        return {}

    @abstractmethod
    def loss(self, batch: Any, progress: Progress) -> LossOutput:  # each method states its own batch type
        """Computes the loss of one batch; fp32 whatever the encoder's precision."""

    def after_backward(self, progress: Progress) -> None:
        """Runs before the optimiser's step, with the gradients there: a part held still drops its own."""

    def after_step(self, progress: Progress) -> None:
        """Runs after the optimiser's step, without gradients: EMA updates."""

    def at_epoch_end(self, progress: Progress) -> None:
        """Runs after the last step of a pass over the data, without gradients."""

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns the optimiser's groups; biases and norms are kept from weight decay by the fit.

        Each group has `params` and may have `lr_scale` (times the run's rate), `fixed_rate` (True: neither warm-up nor
        schedule changes its rate) and `name`.
        """
        return [{"name": "all", "params": [p for p in self.parameters() if p.requires_grad]}]
