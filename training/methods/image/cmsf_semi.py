"""CMSF-semi: mean shift within classes, where a small head guesses the labels that are missing.

Source: Navaneet et al. 2022, "Constrained mean shift using distant yet related neighbors for representation learning",
arXiv:2112.04607.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import ProjectionHead, mlp
from models.image.encoder import ImageEncoder
from training.distributed import gather
from training.losses.precision import full_precision
from training.methods.base import MethodContext, Needs, Progress
from training.methods.image.cmsf_sup import CMSFSup, CMSFSupConfig
from training.methods.image.mean_shift import Observed
from training.methods.recipes import Recipe, RecipeName, Recipes, sgd
from training.state.ring_bank import RingBank

__all__ = ["CMSFSemi", "CMSFSemiConfig", "pseudo_labels", "train_pseudo_label_head"]

_LARGEST_BATCH_OF_TWO_ROUNDS = 1023
"""Up to this batch the head is trained in the middle of an epoch too."""
_IMAGES_PER_LABELLED_ROW = 10
"""Where the size of the labelled bank is not given: the authors keep 128,000 rows for ImageNet's 1.28 million."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CMSFSemiConfig(CMSFSupConfig):
    """CMSF-semi (Navaneet et al. 2022): mean shift within classes, guessed where they are not known."""

    confidence_threshold: float = 0.85
    """Least probability that makes a guess a label, at least 0; above 1 nothing is guessed."""
    labelled_bank_size: int | None = 128_000
    """Recent targets of labelled images that the head learns from, at least the batch. Where not given: a tenth of the
    data set, and at least the batch."""
    head_epochs: int = 10
    """Passes over the labelled bank in each round of the head's training, at least 1."""
    head_batch_size: int = 256
    """Rows per step of the head, at least 2."""
    head_learning_rate: float = 0.01
    """Of the head's SGD, constant, above 0."""

    def __post_init__(self) -> None:
        CMSFSupConfig.__post_init__(self)
        for name, least in (("confidence_threshold", 0), ("head_epochs", 1), ("head_batch_size", 2)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= {least}")
        if not self.head_learning_rate > 0:
            raise ValueError(f"head_learning_rate ({self.head_learning_rate}) must be > 0")


# As for mean shift: the authors' banks are for ImageNet alone, and in short runs many small steps and a BatchNorm after
# the projector keep more dimensions. Of a few hundred labelled images small batches make enough steps for the head.
_OWN_BANKS = {"bank_size": None, "labelled_bank_size": None}
_MANY_SMALL_STEPS = {**_OWN_BANKS, "output_norm": True, "head_batch_size": 64}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=sgd(0.05, 1e-4, warmup=0.02), settings=_MANY_SMALL_STEPS),
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=sgd(0.005, 1e-4, warmup=0.02), settings=_MANY_SMALL_STEPS),
    RecipeName.PAPER: Recipe(optimiser=sgd(0.05, 1e-4), settings=_OWN_BANKS),
}


def pseudo_labels(scores: Tensor, given: Tensor, *, threshold: float) -> Tensor:
    """Fills in the labels that are missing, where the guess is sure enough.

    Args:
        scores: `[n, classes]`, of any floating type, before the softmax.
        given: `[n]` int64: the true labels, which stay as they are; -1 where there is none.
        threshold: Least probability of a guess.

    Returns:
        `[n]` int64; -1 where there is neither a label nor a sure guess.
    """
    best = scores.float().softmax(dim=1).max(dim=1)
    guessed = torch.where(best.values >= threshold, best.indices, -1)
    return torch.where(given >= 0, given, guessed)


def train_pseudo_label_head(
    head: ProjectionHead, rows: Tensor, labels: Tensor, *, config: CMSFSemiConfig, generator: torch.Generator
) -> None:
    """Trains the head for one round, with an SGD of its own, and leaves it still and in evaluation mode.

    "Fresh" each round: the optimiser starts without momentum, the head where the round before left it.

    Args:
        head: Its parameters are changed in place; they need no gradient before nor after.
        rows: `[m, d]` fp32: targets of labelled images.
        labels: `[m]` int64: their labels.
        config: Epochs, batch and rate.
        generator: On the CPU; draws the order of the rows.
    """
    head.train().requires_grad_(True)
    optimiser = torch.optim.SGD(head.parameters(), config.head_learning_rate, momentum=0.9, weight_decay=1e-4)
    with torch.enable_grad(), full_precision(rows):
        for _ in range(config.head_epochs):
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            for chosen in torch.split(order, config.head_batch_size):
                if len(chosen) < 2:
                    continue  # BatchNorm has no statistics of one row
                optimiser.zero_grad()
                torch.autograd.backward(F.cross_entropy(head(rows[chosen]), labels[chosen]))
                optimiser.step()
    optimiser.zero_grad()
    head.eval().requires_grad_(False)


class CMSFSemi(CMSFSup):
    """Learns an image encoder by mean shift within classes, most of them guessed.

    The head reads targets and is no part of the training: it is trained by itself, on the latest targets of labelled
    images, in the middle and at the end of each epoch. An image whose guess is not sure has mean shift's loss.

    Args:
        encoder: The online branch's encoder, which is kept.
        config: Banks, neighbours, threshold, head, average and views.
        context: Sizes of the data set, the batch and the views, and the number of classes.

    Raises:
        ValueError: There are fewer than two classes, or a bank's size does not fit the data.
    """

    needs = Needs(index=True, dataset_size=True, labels=True)
    config_type = CMSFSemiConfig
    recipes = RECIPES
    config: CMSFSemiConfig
    labelled_label: Tensor
    """`[labelled_bank_size]` int64: true label behind each row of the labelled bank; -1 where nothing was written."""

    def __init__(self, encoder: ImageEncoder, config: CMSFSemiConfig, *, context: MethodContext) -> None:
        super().__init__(encoder, config, context=context)
        if context.class_count < 2:
            raise ValueError(f"labels of at least 2 classes are needed to guess one, got {context.class_count}")
        width = self.projector.width
        self.head = mlp(width, 2 * width, context.class_count).eval().requires_grad_(False)
        self.labelled = RingBank(_labelled_bank_size(config, context), width)
        self.register_buffer("labelled_label", torch.full((self.labelled.size,), -1, dtype=torch.int64))
        self.trains_head_twice = context.batch_size <= _LARGEST_BATCH_OF_TWO_ROUNDS

    def after_step(self, progress: Progress) -> None:
        """Trains the head where half of the epoch is done.

        Args:
            progress: Where the training stands.
        """
        if self.trains_head_twice and progress.step_in_epoch + 1 == progress.steps_per_epoch // 2:
            self._train_head()

    def at_epoch_end(self, progress: Progress) -> None:  # noqa: ARG002 - the same at every epoch's end
        """Trains the head.

        Args:
            progress: Unused.
        """
        self._train_head()

    @torch.no_grad()
    def _labels(self, given: Tensor, observed: Observed) -> Tensor:
        """Keeps all ranks' labelled targets for the head, and guesses this rank's missing labels."""
        self._keep_labelled(gather(given), observed.written)
        with full_precision(observed.targets):
            scores = self.head.eval()(observed.targets)  # the whole method was set to training mode
        return pseudo_labels(scores, given, threshold=self.config.confidence_threshold)

    def _keep_labelled(self, given: Tensor, written: Tensor) -> None:
        known = given >= 0
        source = written[known]
        slots = self.labelled.enqueue(self.bank.vectors[source], self.bank.index[source])
        self.labelled_label[slots] = given[known]

    def _train_head(self) -> None:
        # One draw for all ranks, so that they train the same head.
        seed = torch.randint(2**62, (1,)).to(self.bank_label.device)
        train_pseudo_label_head(
            self.head,
            self.labelled.valid,
            self.labelled_label[: self.labelled.filled],
            config=self.config,
            generator=torch.Generator().manual_seed(int(gather(seed)[0])),
        )


def _labelled_bank_size(config: CMSFSemiConfig, context: MethodContext) -> int:
    if config.labelled_bank_size is None:
        return max(context.batch_size, context.dataset_size // _IMAGES_PER_LABELLED_ROW)
    if config.labelled_bank_size < context.batch_size:
        raise ValueError(
            f"labelled_bank_size ({config.labelled_bank_size}) must be >= the batch of {context.batch_size}, "
            f"all of which may be labelled"
        )
    return config.labelled_bank_size
