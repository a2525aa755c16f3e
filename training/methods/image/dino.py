"""DINO: a student's distribution over prototypes follows the one that its own slow average gives another view.

Source: Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv:2104.14294.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor, nn

from models.image.encoder import ImageEncoder
from models.image.input_sizes import require_input_sizes
from training.distributed import gather
from training.losses.precision import full_precision, unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw
from training.state.ema import EmaTarget, cosine_ema_decay
from training.views.config import MultiCropConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["DINO", "DINOConfig", "DINOHead", "dino_loss", "dino_targets"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DINOConfig(MultiCropConfig):
    """DINO (Caron et al. 2021): follow the distribution that a slow average gives another view."""

    prototype_count: int = 65_536
    """Prototypes that the distributions are over, at least 2. Paper: K."""
    hidden_width: int = 2048
    """Width of the head's two hidden layers."""
    bottleneck_width: int = 256
    """Width of the unit vectors that are scored against the prototypes."""
    head_norm: bool = False
    """Whether BatchNorm follows the head's hidden layers; the paper has none with ViTs, which have none either."""
    student_temperature: float = 0.1
    """Divides the student's scores; above 0."""
    teacher_temperature: float = 0.07
    """Divides the teacher's centred scores after the warm-up; above 0."""
    first_teacher_temperature: float = 0.04
    """The same at the first step."""
    teacher_temperature_warmup: float = 0.1
    """Fraction of the training over which the one becomes the other, in [0, 1]. Paper: 30 of 300 epochs."""
    centre_decay: float = 0.9
    """Of the running mean of the teacher's scores, in [0, 1]."""
    ema_decay: float = 0.996
    """Of the teacher at the first step, in [0, 1]; rises to 1 over the training."""
    frozen_epochs: float = 1.0
    """First passes over the data, at least 0, in which prototypes are held still; a fraction is a part of the first."""
    augmentation: Augmentation = Augmentation.BYOL_FIRST
    """Set of random changes. With byol-first the second large view is byol-second, as in the paper; any other is all
    views'."""
    smallest_crop: float | None = 0.05
    """Least area of a view's crop as a fraction of the image's, in (0, 1]; the authors' without small views: 0.14."""
    small_views: int = 8
    """Small views of each image, which only the student sees."""

    def __post_init__(self) -> None:
        for name, least in (("prototype_count", 2), ("hidden_width", 1), ("bottleneck_width", 1), ("frozen_epochs", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= {least}")
        for name in ("student_temperature", "teacher_temperature", "first_teacher_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be > 0")
        for name in ("teacher_temperature_warmup", "centre_decay", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be in [0, 1]")


# A head and an average for thousands of images and steps, in which a teacher warmer than the authors' code's default
# stays near uniform. For convolutions at 32 px lightly and solo-learn have two large views and BatchNorm in the head.
_SHORT = {"prototype_count": 1024, "hidden_width": 512, "ema_decay": 0.99, "teacher_temperature": 0.04}
_SMALL_IMAGES = _SHORT | {"head_norm": True, "small_views": 0, "smallest_crop": 0.2, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3, 0.04), settings=_SMALL_IMAGES),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4, 0.04), settings=_SMALL_IMAGES),
    # "lr = 0.0005 * batchsize / 256", 10 epochs of warm-up, here of 300. The authors raise the weight decay to 0.4 over
    # the training; here it stays where it starts. They clip each parameter's gradient, not that of all together.
    RecipeName.PAPER: Recipe(optimiser=replace(adamw(5e-4, 0.04, warmup=1 / 30), gradient_clip=3.0)),
}


def dino_targets(logits: Tensor, centre: Tensor, *, temperature: float) -> Tensor:
    """Returns the teacher's distributions: `softmax((g_t(x) - c) / T)`.

    Args:
        logits: `[..., k]`, the teacher's scores.
        centre: `[k]`, their running mean: taking it off keeps one prototype from winning everywhere.
        temperature: Divides them; a low one keeps all from being equal; positive.

    Returns:
        `[..., k]` fp32, rows that sum to 1; constants, whatever the logits carry.

    Raises:
        ValueError: The temperature is not positive.

    Source: Caron et al. 2021, arXiv:2104.14294, algorithm 1.
    """
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    with full_precision(logits):
        return ((logits.detach().float() - centre.float()) / temperature).softmax(dim=-1)


def dino_loss(logits: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Fits the student's distribution of each view to the teacher's of every other view it saw.

    The mean of `-sum_k t_k log s_k` over images and pairs of different views; s is the student's softmax.

    Args:
        logits: `[v, n, k]`, the student's scores of all views, the teacher's first; carries the gradient.
        targets: `[g, n, k]`, the teacher's distributions of the first g views; constants.
        temperature: Divides the scores; positive.

    Returns:
        Scalar, fp32; log k where the student is uniform.

    Raises:
        ValueError: The shapes do not fit, there is no pair of views, or the temperature is not positive.

    Source: Caron et al. 2021, arXiv:2104.14294, equation 3, which sums over the pairs; the authors' code averages.
    """
    views, seen = len(logits), len(targets)
    fits = logits.ndim == targets.ndim == 3 and logits.shape[1:] == targets.shape[1:] and 0 not in logits.shape
    if not fits or not 1 <= seen <= views or views < 2:
        raise ValueError(
            "expected logits [v, n, k] of v >= 2 views and targets [g, n, k] of the first g of them, "
            f"got {list(logits.shape)} and {list(targets.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    with full_precision(logits):
        log_chances = (logits.float() / temperature).log_softmax(dim=-1)
        pairs = -targets.detach().float().flatten(1) @ log_chances.flatten(1).T / logits.shape[1]  # [g, v]
    return (pairs.sum() - pairs.diagonal().sum()) / (seen * (views - 1))


class DINOHead(nn.Module):
    """An MLP with GELU, unit rows, and a last layer whose rows, the prototypes, have unit length too.

    "A 3-layer multi-layer perceptron (MLP) with hidden dimension 2048 followed by l2 normalization and a weight
    normalized fully connected layer with K dimensions" [0]. The authors' code holds the rows' lengths at 1, so that the
    scores are cosines, draws the MLP's weights with a deviation of 0.02, and gives the last layer no bias [1].

    Args:
        inputs: Width of the representation.
        config: Its other widths, K, and whether BatchNorm follows the hidden layers.

    References:
        - [0] DINO, 2021, section 3.1, https://arxiv.org/abs/2104.14294
        - [1] `DINOHead`, https://github.com/facebookresearch/dino/blob/7c446df/vision_transformer.py
    """

    def __init__(self, inputs: int, config: DINOConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        hidden = config.hidden_width
        for before in (inputs, hidden):
            layers += [nn.Linear(before, hidden), *([nn.BatchNorm1d(hidden)] if config.head_norm else []), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, config.bottleneck_width))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Linear(config.bottleneck_width, config.prototype_count, bias=False)

    def project(self, representations: Tensor) -> Tensor:
        """Returns `[n, bottleneck]` fp32 unit rows of representations `[n, inputs]`."""
        return unit_rows(self.layers(representations))

    def score(self, projections: Tensor) -> Tensor:
        """Returns `[n, k]` fp32, in [-1, 1], of unit rows `[n, bottleneck]`: the cosine with each prototype."""
        # A temperature of 0.04 would make a bf16 product's rounding a tenth of the logit.
        with full_precision(projections):
            return projections.float() @ unit_rows(self.prototypes.weight).T

    def forward(self, representations: Tensor) -> Tensor:
        """Returns the scores of representations `[n, inputs]`, as `score`."""
        return self.score(self.project(representations))


class DINO(Method):
    """Learns an image encoder by distilling its own average into it.

    Differs from the paper: what is kept is the student's encoder, and the temperature rises by the step, not the epoch.

    Args:
        encoder: The student's encoder, which is kept; called once per size of views.
        config: Temperatures, averages, head and views.
        context: Gives the size of the large views.

    Raises:
        ValueError: The views' settings do not fit each other or the encoder.
    """

    centre: Tensor
    """`[k]` fp32: running mean of the teacher's scores over the batches of all ranks."""
    config_type = DINOConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: DINOConfig, *, context: MethodContext) -> None:
        super().__init__()
        self._views = _views(config, context.image_size_px)
        require_input_sizes(encoder, [view.size_px for view in self._views])
        self.encoder = encoder
        self.head = DINOHead(encoder.width, config)
        self.target = EmaTarget(nn.Sequential(self.encoder, self.head))
        self.register_buffer("centre", torch.zeros(config.prototype_count))
        self.config = config

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the two large views, which the teacher sees too, and the small ones."""
        return self._views

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes the cross-entropy of the student's distributions with the teacher's of other views.

        The centre takes in this batch after it was taken off, as in the authors' code.

        Args:
            batch: Two large views per image, and the small ones.
            progress: Where the temperature's warm-up stands.

        Returns:
            The loss, log K where the student is uniform; `teacher_entropy`, of the teacher's distributions, and
            `mean_teacher_entropy`, of their mean, as fractions of log K: collapse shows as a 1 in the first (all
            prototypes alike) or a 0 in the second (one takes all).
        """
        temperature = self.teacher_temperature(progress)
        count = len(batch.index)
        projections = self.head.project(self._represent(batch.views))  # [v * n, d]
        student = self.head.score(projections).view(len(batch.views), count, -1)
        teacher = self.target(torch.cat(batch.views[:2])).view(2, count, -1)
        targets = dino_targets(teacher, self.centre, temperature=temperature)
        loss = dino_loss(student, targets, temperature=self.config.student_temperature)
        self.centre.lerp_(gather(teacher.mean(dim=(0, 1))[None]).mean(dim=0), 1 - self.config.centre_decay)
        metrics = _entropies(targets) | {"teacher_temperature": temperature}
        return LossOutput(loss, projections[: 2 * count].detach(), metrics)

    def after_backward(self, progress: Progress) -> None:
        """Drops the prototypes' gradient in the first passes over the data.

        Args:
            progress: Where the training stands.
        """
        if progress.epoch + progress.step_in_epoch / progress.steps_per_epoch < self.config.frozen_epochs:
            self.head.prototypes.weight.grad = None  # and not 0, which weight decay and momentum would move

    def after_step(self, progress: Progress) -> None:
        """Moves the teacher towards the student, which has just taken its step.

        Args:
            progress: Where the average's schedule stands.
        """
        student = nn.Sequential(self.encoder, self.head)
        self.target.update(student, decay=cosine_ema_decay(self.config.ema_decay, progress))

    def teacher_temperature(self, progress: Progress) -> float:
        """Returns the teacher's temperature at a step.

        Args:
            progress: Where the training stands.

        Returns:
            From `first_teacher_temperature` to `teacher_temperature` over the warm-up, that afterwards.
        """
        first, last = self.config.first_teacher_temperature, self.config.teacher_temperature
        warmup = self.config.teacher_temperature_warmup
        return last if progress.fraction >= warmup else first + (last - first) * progress.fraction / warmup

    def _represent(self, views: Sequence[Tensor]) -> Tensor:
        sizes = groupby(views, key=lambda view: view.shape[-1])
        return torch.cat([self.encoder(torch.cat(list(group))) for _, group in sizes])


def _views(config: DINOConfig, size_px: int) -> tuple[ViewSpec, ...]:
    first, second, *small = config.multi_crop(size_px)
    if config.augmentation is Augmentation.BYOL_FIRST:
        second = replace(config.view(size_px, Augmentation.BYOL_SECOND), crop_scale=first.crop_scale)
        small = [replace(view, blur_probability=view.blur_probability / 2) for view in small]
    return first, second, *small


def _entropies(targets: Tensor) -> dict[str, Tensor]:
    rows, largest = targets.flatten(0, 1), math.log(targets.shape[-1])
    each, mean = torch.special.entr(rows).sum(dim=1).mean(), torch.special.entr(rows.mean(dim=0)).sum()
    return {"teacher_entropy": each / largest, "mean_teacher_entropy": mean / largest}
