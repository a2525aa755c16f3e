"""CMSF-self: mean shift whose second half looks for neighbours only among those of an earlier augmentation.

Source: Navaneet et al. 2022, "Constrained mean shift using distant yet related neighbors for representation learning",
arXiv:2112.04607.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.image.encoder import ImageEncoder
from training.losses.neighbours import Neighbours, mean_distance, nearest_neighbours
from training.methods.base import ImageBatch, LossOutput, MethodContext, Progress
from training.methods.image.mean_shift import MeanShift, MeanShiftConfig
from training.methods.recipes import Recipes
from training.state.embedding_cache import EmbeddingCache, Previous

__all__ = ["CMSFSelf", "CMSFSelfConfig", "cmsf_self_loss", "previous_neighbours"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CMSFSelfConfig(MeanShiftConfig):
    """CMSF-self (Navaneet et al. 2022): mean shift to the nearest neighbours, and to those of the pass before."""

    bank_size: int | None = 128_000
    """Recent targets to search, at least the batch and below the data set minus a batch. Where not given: half of the
    data set, at most 8,192."""
    constraint_size: int = 5
    """Nearest images of the pass before that the constrained neighbours are taken from, at least `neighbour_count`: if
    equal, they are these. Paper: k'."""

    def __post_init__(self) -> None:
        MeanShiftConfig.__post_init__(self)
        if self.constraint_size < self.neighbour_count:
            raise ValueError(
                f"constraint_size ({self.constraint_size}) must be >= neighbour_count ({self.neighbour_count})"
            )


# Networks, optimiser and batches are mean shift's, and so is what suits them; the authors' bank is for ImageNet alone.
RECIPES: Recipes = MeanShift.recipes


def previous_neighbours(previous: Previous, bank_previous: Previous, *, count: int) -> Tensor:
    """Finds which rows of the bank were near in the pass before.

    The nearest neighbours of each image's previous embedding w among the previous embeddings M' of the images in the
    bank. What has no previous embedding is neither asked nor found.

    Args:
        previous: Of the `n` images of the batch. Paper: w.
        bank_previous: Of the images behind the `m` rows of the bank. Paper: M'.
        count: Neighbours of each, in `[1, m]`. Paper: k'.

    Returns:
        `[n, m]` bool: the rows that may be a constrained neighbour; none for an image without a previous embedding.

    Refuses what `nearest_neighbours` refuses.
    """
    both_known = previous.known[:, None] & bank_previous.known[None, :]
    found = nearest_neighbours(previous.rows, bank_previous.rows, count=count, allowed=both_known)
    return torch.zeros_like(both_known).scatter_(1, found.slots, found.valid)


def cmsf_self_loss(
    predictions: Tensor,
    targets: Tensor,
    bank: Tensor,
    *,
    previous: Previous,
    bank_previous: Previous,
    neighbour_count: int,
    constraint_size: int,
) -> Tensor:
    """Pulls each prediction towards its target's nearest neighbours, and as much towards its constrained ones.

    `mean_i 1/2 (1/k sum_(j in I_i) d(v_i, M_j) + 1/k sum_(j in I'_i) d(v_i, M_j))`, d the squared distance, I_i the k
    rows nearest to the target u_i, and I'_i the k nearest to u_i among the k' rows that `previous_neighbours` finds. An
    image without a previous embedding has the first term alone, whole: where none has one, this is mean shift.

    Args:
        predictions: `[n, d]`, unit rows, from the online branch; carries the gradient.
        targets: `[n, d]`, unit rows, from the EMA branch; constants.
        bank: `[m, d]`, unit rows, recent targets, this batch's included; constants.
        previous: Embeddings of the batch's images in the pass before.
        bank_previous: Those of the images behind the bank's rows.
        neighbour_count: Neighbours per target, in `[1, m]`. Paper: k.
        constraint_size: Rows that the constrained ones are taken from, in `[1, m]`. Paper: k'.

    Returns:
        Scalar, fp32, in `[0, 4]`.

    Refuses what `nearest_neighbours` refuses.

    Source: Navaneet et al. 2022, arXiv:2112.04607. Differs: in the authors' code, what was never seen is a random
        vector of any length, and the first pass is led by it.
    """
    allowed = previous_neighbours(previous, bank_previous, count=constraint_size)
    unconstrained = nearest_neighbours(targets, bank, count=neighbour_count)
    constrained = nearest_neighbours(targets, bank, count=neighbour_count, allowed=allowed)
    return _mean_of_both(predictions, bank, unconstrained, constrained).mean()


def _mean_of_both(predictions: Tensor, bank: Tensor, unconstrained: Neighbours, constrained: Neighbours) -> Tensor:
    distances = mean_distance(predictions, bank, unconstrained)  # [n]
    both = (distances + mean_distance(predictions, bank, constrained)) / 2
    return torch.where(constrained.valid.any(dim=1), both, distances)


class CMSFSelf(MeanShift):
    """Learns an image encoder by mean shift, with neighbours that an earlier augmentation of the image agrees on.

    "Another augmentation" is no further view: it is the image's target embedding of the pass before, from a cache.

    Args:
        encoder: The online branch's encoder, which is kept.
        config: Bank, neighbours, constraint, average and views.
        context: Sizes of the data set, which is the cache's too, the batch and the views.

    Raises:
        ValueError: The bank is not in [batch, data set - batch).
    """

    config_type = CMSFSelfConfig
    recipes = RECIPES
    config: CMSFSelfConfig

    def __init__(self, encoder: ImageEncoder, config: CMSFSelfConfig, *, context: MethodContext) -> None:
        super().__init__(encoder, config, context=context)
        self.cache = EmbeddingCache(context.dataset_size, self.projector.width)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes the mean squared distance of each prediction to its unconstrained and its constrained neighbours.

        Args:
            batch: The online view and the target view of each image, and its place in the data set.
            progress: Where the neighbours' warm-up stands.

        Returns:
            The loss in [0, 4], mean shift's throughout the first pass; mean shift's `self_fraction` and `neighbours`;
            `constrained`, the share of images with a constrained term.
        """
        observed = self._observe(batch)
        # What was just written, of all ranks, with the images it is of.
        self.cache.write(self.bank.vectors[observed.written], self.bank.index[observed.written])
        bank, filled = self.bank.valid, self.bank.filled
        count = self.neighbour_count(progress)
        allowed = previous_neighbours(
            self.cache.previous(batch.index),
            self.cache.previous(self.bank.valid_index),
            count=min(self.config.constraint_size, filled),
        )
        unconstrained = nearest_neighbours(observed.targets, bank, count=min(count, filled))
        constrained = nearest_neighbours(observed.targets, bank, count=min(count, filled), allowed=allowed)
        loss = _mean_of_both(observed.predictions, bank, unconstrained, constrained).mean()
        metrics: dict[str, Tensor | float] = {
            "self_fraction": self.bank.self_fraction(unconstrained.slots, observed.own, batch.index),
            "neighbours": float(count),
            "constrained": allowed.any(dim=1).float().mean(),
        }
        return LossOutput(loss, observed.predictions.detach(), metrics)
