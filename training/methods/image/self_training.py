"""Self-training: a student that is shown changed images learns what a teacher said of them unchanged.

Source: Xie et al. 2020, "Self-training with noisy student improves ImageNet classification", arXiv:1911.04252.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder
from training.distributed import gather
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress, SupportSpec
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["SelfTraining", "SelfTrainingConfig", "balanced_copies", "pseudo_label_loss"]

_OWN_LABELLED = 80
"""Labelled images of a step where their number is not given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTrainingConfig(ViewConfig):
    """Self-training (Xie et al. 2020): name classes as a teacher did, that was trained on the labelled images.

    The authors' noise is RandAugment, dropout and stochastic depth; here it is the set of views, and dropout.
    """

    generations: int = 3
    """Students in turn after the first teacher, each the next one's; 0: the teacher alone."""
    threshold: float = 0.3
    """Least chance of the teacher's likeliest class for an image to be learnt from; above 1 none is."""
    pseudo_labels_per_class: int | None = None
    """Images of every class that are learnt from, the surest; where there are fewer they come more than once. Where
    not given: as many as make all that pass the threshold. Paper: 130,000."""
    soft_labels: bool = True
    """Whether the target is the teacher's distribution; else its likeliest class."""
    unlabelled_weight: float = 3.0
    """Of the images without labels beside the labelled ones, at least 0. Paper: 1 for its smallest model."""
    images_per_class: int | None = None
    """Labelled images of every class beside each batch. Where not given: as many as make 80, at least one."""
    dropout: float = 0.5
    """Share of the representation that is dropped before the classifier, in [0, 1)."""
    augmentation: Augmentation = Augmentation.STRONG
    """Set of random changes, for labelled images and others."""

    def __post_init__(self) -> None:
        if self.generations < 0:
            raise ValueError(f"generations ({self.generations}) must be >= 0")
        for name in ("pseudo_labels_per_class", "images_per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be >= 1")
        if self.threshold < 0 or self.unlabelled_weight < 0:
            raise ValueError(
                f"threshold ({self.threshold}) and unlabelled_weight ({self.unlabelled_weight}) must be >= 0"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1)")


# One student, because each takes as much of the run as the teacher; the smallest model's weight.
_SHORT = {"generations": 1, "unlabelled_weight": 1.0, "smallest_crop": 0.35}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=128, optimiser=adamw(1e-3, 0.05), settings=_SHORT),
    RecipeName.ADAPT: Recipe(batch_size=128, optimiser=adamw(1e-4, 0.05), settings=_SHORT),
    # The rate is the authors' 0.128 a 2,048 images made 256's; half a cosine stands in for their stairs.
    RecipeName.PAPER: Recipe(batch_size=256, optimiser=sgd(0.016, 1e-5)),
}


def balanced_copies(predictions: Tensor, *, threshold: float, per_class: int | None = None) -> Tensor:
    """Chooses as many images of every predicted class: the surest, some more than once where there are fewer.

    Args:
        predictions: `[n, classes]`, rows of chances; a row of zeros is of an image that is not to be chosen.
        threshold: Least chance of the likeliest class.
        per_class: Images of every class; None: all that pass the threshold, spread evenly.

    Returns:
        `[n]` int64: how often each image is learnt from, at least 0; the sums over the classes that were predicted at
        all differ by nothing.

    Source: Xie et al. 2020, arXiv:1911.04252.
    """
    chance, named = predictions.max(dim=1)
    passed = chance >= max(threshold, torch.finfo(torch.float32).tiny)
    copies = torch.zeros(len(predictions), dtype=torch.int64)
    found = sorted(set(named[passed].tolist()))
    if not found:
        return copies
    wanted = per_class or -(-int(passed.sum()) // len(found))
    for name in found:
        places = torch.nonzero(passed & (named == name)).squeeze(1)
        surest = places[chance[places].argsort(descending=True, stable=True)]
        rounds, rest = divmod(wanted, len(surest))
        copies[surest] += rounds
        copies[surest[:rest]] += 1
    return copies


def pseudo_label_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Names the classes that a teacher named: cross-entropy, averaged by weight.

    Args:
        logits: `[n, classes]`, any floating type; carries the gradient.
        targets: `[n, classes]`, the teacher's chances; constants.
        weights: `[n]`, at least 0: how often each image is learnt from.

    Returns:
        Scalar, fp32: `sum_i w_i H(q_i, p_i) / sum_i w_i`, the second sum's mean over all ranks; 0 where no image of
        any rank is learnt from.
    """
    entropies = F.cross_entropy(logits.float(), targets.float(), reduction="none")
    weights = weights.float()
    # As a mean over ranks, to which gradients are averaged, this is the weighted mean over all images.
    return (weights * entropies).mean() / gather(weights).mean().clamp_min(torch.finfo(torch.float32).tiny)


class SelfTraining(Method):
    """Learns an image encoder from labelled images and from what a teacher says of the others.

    This is one student, or, without predictions, the first teacher, which learns from the labelled images alone;
    `training.fit.generations` trains them in turn. All cost the same, and the teacher's BatchNorm sees what the
    students' sees. The predictions were made once, in evaluation mode, of unchanged images, and are kept beside the
    weights, so that no older teacher's are learnt after a resumption.

    Args:
        encoder: Gives the representation, which a linear layer reads; not the teacher's.
        config: Threshold, balance, weight, noise and views.
        context: Gives the classes, the size of the views and the teacher's predictions; without any, the labelled
            images alone are learnt from.

    Raises:
        ValueError: There are fewer than two classes, or the predictions are of other classes or images.
    """

    needs = Needs(labels=True, index=True, teacher=True)
    config_type = SelfTrainingConfig
    recipes = RECIPES
    targets: Tensor
    """`[dataset, classes]` fp32: what the teacher said."""
    copies: Tensor
    """`[dataset]` int64: how often each image is learnt from."""

    def __init__(self, encoder: ImageEncoder, config: SelfTrainingConfig, *, context: MethodContext) -> None:
        super().__init__()
        shape = (context.dataset_size, context.class_count)
        if context.class_count < 2:
            raise ValueError(f"labelled images of at least 2 classes are needed, got {context.class_count}")
        said = torch.zeros(shape) if context.predictions is None else context.predictions.float()
        if said.shape != shape:
            raise ValueError(f"predictions must be [images, classes] = {list(shape)}, got {list(said.shape)}")
        self.encoder = encoder
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(encoder.width, context.class_count)
        self.config = config
        self.class_count = context.class_count
        self.image_size_px = context.image_size_px
        copies = balanced_copies(said, threshold=config.threshold, per_class=config.pseudo_labels_per_class)
        if not config.soft_labels:
            said = F.one_hot(said.argmax(dim=1), context.class_count).float()
        self.register_buffer("targets", said.clone())
        self.register_buffer("copies", copies)

    def kept_heads(self) -> Mapping[str, nn.Module]:
        """Returns the classifier, by which the student can be the next one's teacher."""
        return {"classifier": self.classifier}

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view whose class is named."""
        return (self.config.view(self.image_size_px),)

    def support(self) -> SupportSpec:
        """Returns as many labelled images of every class, changed like the others."""
        count = self.config.images_per_class or max(1, _OWN_LABELLED // self.class_count)
        return SupportSpec(images_per_class=count, views=self.views())

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the cross-entropy to the labels, and to the teacher's predictions.

        Args:
            batch: One view per image, its place and its label, and the support; images of the batch whose label is
                shown are left out, since they come by the support.
            progress: Unused.

        Returns:
            The loss; `labelled` and `unlabelled`, its parts; `pseudo_labelled`, the share of the batch that is learnt
            from; `accuracy`, how often a labelled image's class is named.

        Raises:
            ValueError: The batch has no labels or no support.
        """
        if batch.label is None or batch.support is None:
            raise ValueError("self-training needs labelled images beside the batch, and there are none")
        labelled = batch.support.views[0]
        # One pass, so that BatchNorm sees labelled images and others as one batch.
        representations = self.encoder(torch.cat([labelled, batch.views[0]]))
        logits = self.classifier(self.dropout(representations))
        named, guessed = logits[: len(labelled)], logits[len(labelled) :]
        learnt = F.cross_entropy(named.float(), batch.support.label)
        weights = torch.where(batch.label < 0, self.copies[batch.index], 0)
        taught = pseudo_label_loss(guessed, self.targets[batch.index], weights)
        metrics: dict[str, Tensor | float] = {
            "labelled": learnt.detach(),
            "unlabelled": taught.detach(),
            "pseudo_labelled": (weights > 0).float().mean(),
            "accuracy": (named.detach().argmax(dim=1) == batch.support.label).float().mean(),
        }
        loss = learnt + self.config.unlabelled_weight * taught
        return LossOutput(loss, representations.detach(), metrics)
