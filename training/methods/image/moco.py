"""MoCo v2: find the key of an image's other view among a queue of keys that a slowly moving encoder made.

Sources: He, Fan, Wu, Xie & Girshick 2019, "Momentum contrast for unsupervised visual representation learning",
arXiv:1911.05722; Chen, Fan, Girshick & He 2020, "Improved baselines with momentum contrastive learning",
arXiv:2003.04297.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.heads import ProjectionHead, mlp
from models.image.encoder import ImageEncoder
from training.distributed import gather
from training.losses.info_nce import info_nce_accuracy, info_nce_loss, queue_scores
from training.losses.precision import unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.state.ema import EmaTarget
from training.state.ring_bank import RingBank, check_bank_size, own_bank_size
from training.views.config import ViewConfig
from training.views.spec import ViewSpec

__all__ = ["MoCo", "MoCoConfig", "moco_loss", "moco_projector"]

_LARGEST_OWN_QUEUE = 4096
"""Where the queue's size is not given: on CIFAR-10 a larger one gains nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MoCoConfig(ViewConfig):
    """MoCo v2 (Chen et al. 2020): find an image's key among a queue of others."""

    queue_size: int | None = 65_536
    """Recent keys to stand as negatives, at least those of a step and below the data set minus a batch. Where not
    given: half of the data set, at most 4,096."""
    temperature: float = 0.2
    """Divides the cosines; above 0. Paper: 0.07 in v1, 0.2 in v2."""
    ema_decay: float = 0.999
    """Of the key branch, constant, in [0, 1]. Paper: m."""
    projection_width: int = 128
    """Width of the projection that the loss compares, at least 1."""
    hidden_width: int | None = None
    """Width of the projector's hidden layer, at least 1; as wide as the representation where not given."""
    bn_splits: int = 8
    """Groups in which the keys of a batch meet BatchNorm, at least 1; fewer where one would have under two images.
    Paper: 8 GPUs, between which the keys are shuffled."""
    symmetric: bool = False
    """Whether each view is a query once and a key once, at twice the cost; then both keys enter the queue."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if not 0 <= self.ema_decay <= 1:
            raise ValueError(f"ema_decay ({self.ema_decay}) must be in [0, 1]")
        for name in ("queue_size", "projection_width", "hidden_width", "bn_splits"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be >= 1")


# The authors' demonstration on CIFAR-10 has a sharper softmax and a faster key branch than ImageNet's 200 epochs.
_SMALL_IMAGES = {"queue_size": None, "temperature": 0.1, "ema_decay": 0.99}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_SMALL_IMAGES),
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_SMALL_IMAGES),
    # v2's on ImageNet; a queue of 65,536 is more than most other data sets hold.
    RecipeName.PAPER: Recipe(optimiser=sgd(0.03, 1e-4), settings={"queue_size": None}),
}


def moco_loss(queries: Tensor, keys: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Picks each query's key out of itself and the queue.

    `-log exp(q · k+ / T) / (exp(q · k+ / T) + sum_j exp(q · k_j / T))`, averaged over the queries: k+ the key of the
    same image, k_j those of the queue, in which k+ is not. Where each view is a query once, the authors add the two
    directions; here their mean is taken.

    Args:
        queries: `[n, d]`, unit rows; carries the gradient.
        keys: `[n, d]`, unit rows, of the same images; constants.
        queue: `[k, d]`, unit rows, of earlier steps; constants.
        temperature: Divides the cosines. Paper: 0.2.

    Returns:
        Scalar, fp32; log(k + 1) where all cosines are equal.

    Refuses what `queue_scores` refuses.

    Source: He et al. 2019, arXiv:1911.05722, equation 1.
    """
    scores = queue_scores(queries, keys.detach(), queue.detach(), temperature=temperature)
    return info_nce_loss(scores, _first_columns(scores))


def moco_projector(inputs: int, *, hidden: int | None = None, outputs: int = 128) -> ProjectionHead:
    """Builds MoCo v2's head: h -> Linear-ReLU -> Linear, without BatchNorm.

    "We replace the fc head in MoCo with a 2-layer MLP head (hidden layer 2048-d, with ReLU)" [0]: the hidden layer is
    as wide as ResNet-50's representation.

    Args:
        inputs: Width of h.
        hidden: Width of the hidden layer; None: as wide as h.
        outputs: Width of the projection.

    Returns:
        The head.

    References:
        - [0] Improved baselines, 2020, https://arxiv.org/abs/2003.04297
    """
    return mlp(inputs, inputs if hidden is None else hidden, outputs, batch_norm=False)


class MoCo(Method):
    """Learns an image encoder by momentum contrast.

    Differs from the authors' code: the queue starts empty rather than random, so that only real keys are negatives and
    the first step, which has none, teaches nothing. And keys are not shuffled between devices but normalised in groups:
    BatchNorm's statistics, which are the same for any order of one device's batch, would tell a query its key.

    Args:
        encoder: The query branch's encoder, which is kept.
        config: Queue, temperature, average, head and views.
        context: Sizes of the data set, the batch and the views.

    Raises:
        ValueError: The queue does not hold the keys of a step, or is not below the data set minus a batch.
    """

    needs = Needs(index=True, dataset_size=True)
    config_type = MoCoConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: MoCoConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = moco_projector(encoder.width, hidden=config.hidden_width, outputs=config.projection_width)
        self.key_branch = EmaTarget(nn.Sequential(self.encoder, self.projector))
        self.queue = RingBank(_queue_size(config, context), self.projector.width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two views from one set of changes: the query's and the key's."""
        view = self.config.view(self.image_size_px)
        return view, view

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes InfoNCE of each query over its key and the queue.

        The order is the authors': query, average, key, loss, enqueue. The queue is used before this batch's keys enter
        it, or each positive would be a negative too.

        Args:
            batch: The query's view and the key's of each image.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often a query's best key is its own image's. The loss rises from 0 while the
            queue fills: there is more and more to tell the key from.
        """
        first, second = batch.views
        query_views, key_views = ((first, second), (second, first)) if self.config.symmetric else ((first,), (second,))
        queries = unit_rows(self.projector(self.encoder(torch.cat(query_views))))  # q
        self.key_branch.update(nn.Sequential(self.encoder, self.projector), decay=self.config.ema_decay)
        keys = [self.keys_of(view) for view in key_views]  # k
        # Copied, because the queue is written before the backward pass.
        queue = self.queue.valid.clone()
        scores = queue_scores(queries, torch.cat(keys), queue, temperature=self.config.temperature)
        positives = _first_columns(scores)
        for rows in keys:
            self.queue.enqueue(gather(rows), gather(batch.index))
        accuracy = info_nce_accuracy(scores, positives)
        return LossOutput(info_nce_loss(scores, positives), queries.detach(), {"accuracy": accuracy})

    def keys_of(self, view: Tensor) -> Tensor:
        """Makes the keys of a view, each group of images normalised by itself.

        Args:
            view: `[n, 3, h, w]` float, normalised.

        Returns:
            `[n, d]` fp32, unit rows, constants.
        """
        groups = max(1, min(self.config.bn_splits, len(view) // 2))  # BatchNorm wants two images
        return unit_rows(torch.cat([self.key_branch(group) for group in view.tensor_split(groups)]))


def _first_columns(scores: Tensor) -> Tensor:
    return torch.zeros(len(scores), dtype=torch.int64, device=scores.device)


def _queue_size(config: MoCoConfig, context: MethodContext) -> int:
    keys = context.batch_size * (2 if config.symmetric else 1)
    size = config.queue_size
    if size is None:
        size = own_bank_size(_LARGEST_OWN_QUEUE, dataset_size=context.dataset_size, batch_size=keys)
    check_bank_size(size, dataset_size=context.dataset_size, batch_size=context.batch_size)
    if size < keys:
        raise ValueError(f"queue_size ({size}) must be >= {keys}: both keys of a batch of {context.batch_size} enter")
    return size
