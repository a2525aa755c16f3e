"""CMSF-supervised: mean shift to the nearest neighbours among the images of the same class.

Source: Navaneet et al. 2022, "Constrained mean shift using distant yet related neighbors for representation learning",
arXiv:2112.04607.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.image.encoder import ImageEncoder
from training.distributed import gather
from training.losses.neighbours import mean_distance, nearest_neighbours
from training.methods.base import ImageBatch, LossOutput, MethodContext, Needs, Progress
from training.methods.image.mean_shift import MeanShift, MeanShiftConfig, Observed
from training.methods.recipes import Recipes

__all__ = ["CMSFSup", "CMSFSupConfig", "constrained_mean_shift_loss", "same_class"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CMSFSupConfig(MeanShiftConfig):
    """CMSF-supervised (Navaneet et al. 2022): mean shift to the nearest neighbours of the same class."""

    bank_size: int | None = 128_000
    """Recent targets to search, at least the batch and below the data set minus a batch. Where not given: half of the
    data set, at most 8,192."""
    neighbour_count: int = 10
    """Nearest targets to move to; where the bank holds fewer of the class, those."""


# Networks, optimiser and batches are mean shift's, and so is what suits them; the authors' bank is for ImageNet alone.
RECIPES: Recipes = MeanShift.recipes


def same_class(labels: Tensor, bank_labels: Tensor) -> Tensor:
    """Finds which rows of a bank may be an image's neighbours.

    Args:
        labels: `[n]` int64, of the batch; -1 where there is none, or none to trust.
        bank_labels: `[m]` int64, of the bank; likewise.

    Returns:
        `[n, m]` bool: rows with the image's label; all rows for an image without one, and not only those without one.
    """
    return (labels[:, None] == bank_labels[None, :]) | (labels < 0)[:, None]


def constrained_mean_shift_loss(
    predictions: Tensor,
    targets: Tensor,
    bank: Tensor,
    *,
    labels: Tensor,
    bank_labels: Tensor,
    neighbour_count: int,
) -> Tensor:
    """Pulls each prediction towards the nearest of its target's neighbours of the same class.

    Mean shift's loss, with the neighbours of a labelled image taken from the rows of its class; where there are fewer
    than k, the mean is over those there are. Without labels it is mean shift.

    Args:
        predictions: `[n, d]`, unit rows, from the online branch; carries the gradient.
        targets: `[n, d]`, unit rows, from the EMA branch; constants.
        bank: `[m, d]`, unit rows, recent targets, this batch's included; constants.
        labels: `[n]` int64; -1: this image's neighbours are not constrained.
        bank_labels: `[m]` int64; -1: neighbour of images without a label alone.
        neighbour_count: Neighbours per target, in `[1, m]`.

    Returns:
        Scalar, fp32: mean squared distance to the neighbours, in `[0, 4]`.

    Refuses what `nearest_neighbours` refuses.

    Source: Navaneet et al. 2022, arXiv:2112.04607. Differs: the authors' code fills up with rows of other classes.
    """
    allowed = same_class(labels, bank_labels)
    neighbours = nearest_neighbours(targets, bank, count=neighbour_count, allowed=allowed)
    return mean_distance(predictions, bank, neighbours).mean()


class CMSFSup(MeanShift):
    """Learns an image encoder by mean shift within classes.

    Args:
        encoder: The online branch's encoder, which is kept.
        config: Bank, neighbours, average and views.
        context: Sizes of the data set, the batch and the views.

    Raises:
        ValueError: The bank is not in [batch, data set - batch).
    """

    needs = Needs(index=True, dataset_size=True, labels=True, every_label=True)
    config_type = CMSFSupConfig
    recipes = RECIPES
    config: CMSFSupConfig
    bank_label: Tensor
    """`[bank_size]` int64: the label behind each row of the bank when it was written; -1 where there was none."""

    def __init__(self, encoder: ImageEncoder, config: CMSFSupConfig, *, context: MethodContext) -> None:
        super().__init__(encoder, config, context=context)
        self.register_buffer("bank_label", torch.full((self.bank.size,), -1, dtype=torch.int64))

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes the mean squared distance of each prediction to its target's nearest neighbours of its class.

        Args:
            batch: The online view and the target view of each image, and its label.
            progress: Where the neighbours' warm-up stands.

        Returns:
            The loss in [0, 4]; mean shift's `self_fraction` and `neighbours`; `constrained`, the share of images whose
            neighbours must have a label.

        Raises:
            ValueError: The batch has no labels.
        """
        if batch.label is None:
            raise ValueError("the batch has no labels; constrained mean shift needs some")
        observed = self._observe(batch)
        labels = self._labels(batch.label, observed)
        self.bank_label[observed.written] = gather(labels)
        count = self.neighbour_count(progress)
        neighbours = nearest_neighbours(
            observed.targets,
            self.bank.valid,
            count=min(count, self.bank.filled),
            allowed=same_class(labels, self.bank_label[: self.bank.filled]),
        )
        loss = mean_distance(observed.predictions, self.bank.valid, neighbours).mean()
        metrics: dict[str, Tensor | float] = {
            "self_fraction": self.bank.self_fraction(neighbours.slots, observed.own, batch.index),
            "neighbours": float(count),
            "constrained": (labels >= 0).float().mean(),
        }
        return LossOutput(loss, observed.predictions.detach(), metrics)

    def _labels(self, given: Tensor, observed: Observed) -> Tensor:  # noqa: ARG002 - for those who guess labels
        """Returns the labels that constrain, `[n]` int64: here those given."""
        return given
