"""PAWS: two views of an image are to get the same class from the few labelled images shown beside them.

Source: Assran et al. 2021, "Semi-supervised learning of visual features by non-parametrically predicting view
assignments with support samples", arXiv:2104.13963.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import mlp
from models.image.encoder import ImageEncoder
from models.image.input_sizes import require_input_sizes
from training.distributed import gather, gather_with_gradient
from training.losses.precision import full_precision, unit_rows
from training.methods.base import (
    ImageBatch,
    LossOutput,
    Method,
    MethodContext,
    Needs,
    Progress,
    Support,
    SupportSpec,
)
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars
from training.views.config import MultiCropConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = [
    "PAWS",
    "PAWSConfig",
    "consistency_loss",
    "entropy",
    "paws_targets",
    "sharpen",
    "smooth_labels",
    "soft_nearest_neighbours",
]

_OWN_SUPPORTS = 80
"""Labelled views of a step where their number is not given."""

_SMALLEST_TARGET = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class PAWSConfig(MultiCropConfig):
    """PAWS (Assran et al. 2021): give both views of an image the same class by its nearest labelled images.

    Defaults are the paper's for CIFAR-10, but for the grey views, where the authors solarise and equalise.
    """

    images_per_class: int | None = 64
    """Labelled images of every class beside each batch. Where not given: as many as make 80 labelled views, at least
    one."""
    support_views: int = 2
    """Views of each labelled image."""
    temperature: float = 0.1
    """Divides the cosines to the labelled views; above 0."""
    sharpening_temperature: float = 0.25
    """Powers of 1 over this make a target more certain than the prediction that it is made from; in (0, 1]."""
    label_smoothing: float = 0.1
    """Share of a labelled image's label that is spread over all classes, in [0, 1)."""
    mean_entropy_weight: float = 1.0
    """Weight of the term that keeps all classes in use; at least 0. Paper: me-max."""
    projection_width: int | None = None
    """Width of the projection that is compared; as wide as the representation where not given, as are the paper's."""
    hidden_width: int | None = None
    """Width of the projector's two hidden layers; as wide as the representation where not given."""
    augmentation: Augmentation = Augmentation.SIMCLR
    """Set of random changes for all views."""
    smallest_crop: float | None = 0.3
    """Least area of a view's crop as a fraction of the image's, in (0, 1]."""
    largest_small_crop: float = 0.75
    """Area, as a fraction of the image's, that parts the large views' crops from the small ones'."""
    small_views: int = 6
    """Small views of each image."""

    def __post_init__(self) -> None:
        for name in ("images_per_class", "support_views", "projection_width", "hidden_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be >= 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if not 0 < self.sharpening_temperature <= 1:
            raise ValueError(f"sharpening_temperature ({self.sharpening_temperature}) must be in (0, 1]")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing ({self.label_smoothing}) must be in [0, 1)")
        if self.mean_entropy_weight < 0:
            raise ValueError(f"mean_entropy_weight ({self.mean_entropy_weight}) must be >= 0")


# 1,280 labelled views and eight of each image are for many GPUs.
_FEW_VIEWS = {"images_per_class": None, "small_views": 2}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=128, optimiser=adamw(1e-3), settings=_FEW_VIEWS),
    RecipeName.ADAPT: Recipe(batch_size=128, optimiser=adamw(1e-4), settings=_FEW_VIEWS),
    RecipeName.PAPER: Recipe(optimiser=lars(3.2, 1e-6, warmup=0.017)),
}


def smooth_labels(labels: Tensor, *, class_count: int, smoothing: float) -> Tensor:
    """Returns labels as distributions.

    Args:
        labels: `[m]` int64 in [0, class_count).
        class_count: Classes C.
        smoothing: Share e that is spread over all classes; with 0.1 and ten classes, 0.91 and 0.01.

    Returns:
        `[m, class_count]` fp32: 1 - e + e / C at the label, e / C elsewhere.
    """
    return F.one_hot(labels, class_count).float() * (1 - smoothing) + smoothing / class_count


def soft_nearest_neighbours(queries: Tensor, supports: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Gives each query the labels of the supports, weighted by how near they are.

    `p_i = sum_m softmax_m(cos(z_i, s_m) / T) y_m`.

    Args:
        queries: `[n, d]`, of any length.
        supports: `[m, d]`, of any length, as many of every class; others bias p.
        labels: `[m, classes]`, rows that sum to 1; row m is the label of `supports`' row m.
        temperature: Divides the cosines; positive.

    Returns:
        `[n, classes]` fp32, rows sum to 1.

    Raises:
        ValueError: Supports and labels differ in number.

    Source: Assran et al. 2021, arXiv:2104.13963.
    """
    if len(supports) != len(labels):
        raise ValueError(f"supports ({len(supports)}) and labels ({len(labels)}) must be equally many")
    with full_precision(queries):
        nearness = unit_rows(queries) @ unit_rows(supports).T / temperature
        return nearness.softmax(dim=1) @ labels.float()


def sharpen(predictions: Tensor, *, temperature: float) -> Tensor:
    """Makes distributions more certain: `p^(1/T) / sum p^(1/T)`.

    Args:
        predictions: `[n, classes]`, rows that sum to 1.
        temperature: T, in (0, 1]; 1 changes nothing.

    Returns:
        `[n, classes]` fp32, rows sum to 1; computed by logarithms, because high powers of small chances are 0.
    """
    return (_log(predictions) / temperature).softmax(dim=1)


@torch.no_grad()
def paws_targets(large: Tensor, *, small_views: int, temperature: float) -> Tensor:
    """Makes the targets of all views from the large views' predictions.

    Args:
        large: `[2n, classes]`: the first view's predictions, then the second's.
        small_views: Small views of each image.
        temperature: Of the sharpening.

    Returns:
        `[(2 + small_views) n, classes]` fp32, constants: a large view's target is the other's sharpened prediction,
        a small view's the mean of both. Chances below 0.0001 are 0.
    """
    first, second = sharpen(large, temperature=temperature).chunk(2)
    targets = torch.cat([second, first, *[(first + second) / 2] * small_views])
    return targets.masked_fill(targets < _SMALLEST_TARGET, 0.0)


def consistency_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Moves each view's prediction to its target: cross-entropy, averaged over the views.

    Args:
        predictions: `[v, classes]`, rows that sum to 1; carries the gradient.
        targets: `[v, classes]`; constants.

    Returns:
        Scalar, fp32, at least 0.

    Source: Assran et al. 2021, arXiv:2104.13963.
    """
    return -(targets.detach().float() * _log(predictions)).sum(dim=1).mean()


def entropy(distribution: Tensor) -> Tensor:
    """Returns the entropy of a distribution.

    Args:
        distribution: `[classes]`, sums to 1.

    Returns:
        Scalar, fp32, in [0, log(classes)].
    """
    return -(distribution.float() * _log(distribution)).sum()


def _log(chances: Tensor) -> Tensor:
    """Returns logarithms whose values and gradients are finite at 0."""
    return chances.float().clamp_min(torch.finfo(torch.float32).tiny).log()


class PAWS(Method):
    """Learns an image encoder from many images and the labels of a few.

    The labels of the batch itself are never looked at; only those of the support are.

    Args:
        encoder: Gives the representation; a convolutional one where there are small views.
        config: Supports, temperatures, head and views.
        context: Gives the classes and the size of the views.

    Raises:
        ValueError: There are fewer than two classes, or the encoder cannot read small views.
    """

    needs = Needs(labels=True)
    config_type = PAWSConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: PAWSConfig, *, context: MethodContext) -> None:
        super().__init__()
        if context.class_count < 2:
            raise ValueError(f"labelled images of at least 2 classes are needed, got {context.class_count}")
        self.config = config
        self.class_count = context.class_count
        self.image_size_px = context.image_size_px
        require_input_sizes(encoder, [view.size_px for view in self.views()])
        self.encoder = encoder
        hidden = config.hidden_width or encoder.width
        self.projector = mlp(encoder.width, hidden, hidden, config.projection_width or encoder.width)

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two large views and the small ones."""
        return self.config.multi_crop(self.image_size_px)

    def support(self) -> SupportSpec:
        """Returns as many labelled images of every class, each in large views."""
        count = self.config.images_per_class
        if count is None:
            count = max(1, _OWN_SUPPORTS // (self.class_count * self.config.support_views))
        return SupportSpec(images_per_class=count, views=self.views()[:1] * self.config.support_views)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the views' cross-entropy to each other's classes, less the entropy of the mean class.

        Predictions are made from the supports of all ranks, and the mean is over the views of all ranks.

        Args:
            batch: Two large views and the small ones of each image, and the support.
            progress: Unused.

        Returns:
            The loss; `cross_entropy` and `mean_entropy`, its parts.

        Raises:
            ValueError: The batch has no support.
        """
        if batch.support is None:
            raise ValueError("PAWS needs labelled images beside the batch, and there are none")
        views, supports = self._project(batch.views, batch.support)
        # A support's views come one after the other, so its labels are repeated as a whole.
        names = gather(batch.support.label.repeat(len(batch.support.views)))
        labels = smooth_labels(names, class_count=self.class_count, smoothing=self.config.label_smoothing)
        predictions = soft_nearest_neighbours(
            views, gather_with_gradient(supports), labels, temperature=self.config.temperature
        )
        sharpening = self.config.sharpening_temperature
        large = 2 * len(batch.index)
        targets = paws_targets(predictions[:large], small_views=len(batch.views) - 2, temperature=sharpening)
        cross_entropy = consistency_loss(predictions, targets)
        mean = sharpen(predictions, temperature=sharpening).mean(dim=0, keepdim=True)
        mean_entropy = entropy(gather_with_gradient(mean).mean(dim=0))
        loss = cross_entropy - self.config.mean_entropy_weight * mean_entropy
        parts = {"cross_entropy": cross_entropy.detach(), "mean_entropy": mean_entropy.detach()}
        return LossOutput(loss, views[:large].detach(), parts)

    def _project(self, views: tuple[Tensor, ...], support: Support) -> tuple[Tensor, Tensor]:
        """Returns the views' projections, `[views n, d]`, and the supports', `[support views m, d]`."""
        # One pass a size, and one through the head, so that BatchNorm sees images and supports as one batch.
        shown = torch.cat([*support.views, *views[:2]])
        representations = self.encoder(shown)
        if len(views) > 2:
            representations = torch.cat([representations, self.encoder(torch.cat(views[2:]))])
        projections = self.projector(representations)
        count = len(support.views) * len(support.label)
        return projections[count:], projections[:count]
