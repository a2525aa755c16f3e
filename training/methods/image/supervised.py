"""Supervised: the encoder learns to name the classes of labelled images, to which other methods are compared.

Source: He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["Supervised", "SupervisedConfig", "supervised_loss"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedConfig(ViewConfig):
    """Supervised (He et al. 2016): name the class of an image."""

    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes."""
    smallest_crop: float | None = 0.76
    """Least area of the crop as a fraction of the image's, in (0, 1]. Paper, CIFAR-10: (7 / 8)², shifts of a padded
    image."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing ({self.label_smoothing}) must be in [0, 1)")


# Few labels are learnt by heart in minutes: crops and colours of the strong set make each image many.
_STRONG = {"augmentation": "strong", "smallest_crop": 0.35, "label_smoothing": 0.1}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=128, optimiser=adamw(1e-3, 0.05), settings=_STRONG),
    RecipeName.ADAPT: Recipe(batch_size=128, optimiser=adamw(1e-4, 0.05), settings=_STRONG),
    # CIFAR-10's; the rate falls to a tenth twice, and half a cosine stands in for the stairs.
    RecipeName.PAPER: Recipe(batch_size=128, optimiser=sgd(0.1, 1e-4)),
}


def supervised_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Names each image's class: cross-entropy, averaged over the images.

    Args:
        logits: `[n, classes]`, any floating type.
        labels: `[n]` int64 in [0, classes).
        label_smoothing: Share of the target that is spread over all classes.

    Returns:
        Scalar, fp32; log(classes) where all logits are equal.
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


class Supervised(Method):
    """Learns an image encoder from labels.

    Args:
        encoder: Gives the representation, which a linear layer reads.
        config: Smoothing and views.
        context: Gives the classes and the size of the views.

    Raises:
        ValueError: There are fewer than two classes.
    """

    needs = Needs(labels=True, every_label=True)
    config_type = SupervisedConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: SupervisedConfig, *, context: MethodContext) -> None:
        super().__init__()
        if context.class_count < 2:
            raise ValueError(f"images of at least 2 classes are needed to tell them apart, got {context.class_count}")
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.width, context.class_count)
        self.config = config
        self.image_size_px = context.image_size_px

    def kept_heads(self) -> Mapping[str, nn.Module]:
        """Returns the classifier, by which the run can teach another."""
        return {"classifier": self.classifier}

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view whose class is named."""
        return (self.config.view(self.image_size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule
        """Computes the cross-entropy of the classes.

        Args:
            batch: One view per image, every image labelled.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often the class is named.

        Raises:
            ValueError: The batch has no labels.
        """
        if batch.label is None:
            raise ValueError("supervised learning needs labels, and the batch has none")
        representations = self.encoder(batch.views[0])
        logits = self.classifier(representations)
        loss = supervised_loss(logits, batch.label, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.detach().argmax(dim=1) == batch.label).float().mean()
        return LossOutput(loss, representations.detach(), {"accuracy": accuracy})
