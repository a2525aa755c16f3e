"""SwAV: an image's cluster, as one view shows it, is predicted from another view; clusters stay equally large.

Source: Caron, Misra, Mairal, Goyal, Bojanowski & Joulin 2020, "Unsupervised learning of visual features by contrasting
cluster assignments", arXiv:2006.09882.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import ProjectionHead, mlp
from models.image.encoder import ImageEncoder
from models.image.input_sizes import require_input_sizes
from training.distributed import gather, rank
from training.losses.precision import full_precision, unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars
from training.state.ring_bank import RingBank
from training.views.config import MultiCropConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["SwAV", "SwAVConfig", "sinkhorn", "swav_loss", "swav_projector"]

_ASSIGNED_VIEWS = 2
"""Views that are given codes: the large ones."""
_MOST_OWN_PROTOTYPES = 512
"""Where their number is not given: lightly's for CIFAR-10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SwAVConfig(MultiCropConfig):
    """SwAV (Caron et al. 2020): predict the cluster of one view from another."""

    temperature: float = 0.1
    """Divides the scores that predict; above 0."""
    epsilon: float = 0.05
    """Divides the scores that Sinkhorn balances; above 0. Small: an image has one cluster; large: many."""
    sinkhorn_iterations: int = 3
    """Rounds of balancing, at least 1."""
    prototype_count: int | None = 3000
    """Clusters, at least 2, and at most the images of a step and the queue. Where not given: those, at most 512."""
    frozen_epochs: float = 1.0
    """Passes over the data, at least 0, in which prototypes are held still; a fraction is a part of the first."""
    queue_size: int = 0
    """Recent embeddings of each large view that are balanced beside the batch: for batches smaller than the prototypes;
    0, or at least the batch. The authors have 3840 beside a batch of 256."""
    queue_epoch: int = 15
    """Pass over the data, from 0, in which the queue starts to fill; it is used once it is full."""
    projection_width: int = 128
    """Width of the embedding, at least 1."""
    hidden_width: int = 2048
    """Width of the projector's hidden layer, at least 1."""
    augmentation: Augmentation = Augmentation.SIMCLR
    """Set of random changes for all views."""
    smallest_crop: float | None = 0.05
    """Least area of a crop as a fraction of the image's, in (0, 1]; the set's own where not given. Drawings and logos,
    which a small crop makes unrecognisable, want 0.35 to 0.5."""
    largest_small_crop: float = 0.14
    """Area, as a fraction of the image's, that parts the large views' crops from the small ones'."""
    small_views: int = 6
    """Small views of each image; at least 0."""

    def __post_init__(self) -> None:
        for name in ("temperature", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be > 0")
        for least, names in (
            (2, ("prototype_count",)),
            (1, ("sinkhorn_iterations", "projection_width", "hidden_width")),
            (0, ("frozen_epochs", "queue_size", "queue_epoch", "small_views")),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not value >= least:
                    raise ValueError(f"{name} ({value}) must be >= {least}")


# As lightly for CIFAR-10, two views, as a small one of a small image shows almost nothing, and ViTs read one size.
# Prototypes follow the batch, so that no queue is needed. Crops as gentle as MoCo's.
_TWO_VIEWS = {
    "prototype_count": None,
    "hidden_width": 512,
    "small_views": 0,
    "augmentation": "strong",
    "smallest_crop": None,
}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_TWO_VIEWS),
    # An adaptation: the paper trains from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_TWO_VIEWS),
    # The authors' run with batches of 256: 0.6 without warm-up, and a queue for the 3000 prototypes.
    RecipeName.PAPER: Recipe(optimiser=lars(0.6, 1e-6, warmup=0.0), settings={"queue_size": 3840}),
}


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Assigns every row to the columns so that all columns together get about equally much.

    `q = exp(s / epsilon)`, then in turns every column is divided by its sum and every row by its sum; the paper's
    factors 1/K and 1/n cancel in the last round. On logarithms and in fp32: exp(1 / 0.05) overflows fp16, and here the
    largest score is subtracted from each sum.

    Args:
        scores: `[n, K]`: cosines of images and prototypes, a queue's included.
        epsilon: Divides the scores; positive.
        iterations: Rounds; at least 1.

    Returns:
        Codes `[n, K]` fp32 in [0, 1], each row's sum 1; constants, without gradient.

    Raises:
        ValueError: `epsilon` is not positive, or there is no round.

    Source: Caron et al. 2020, arXiv:2006.09882, section 3.1; Cuturi 2013, arXiv:1306.0895.
    """
    if not epsilon > 0 or iterations < 1:
        raise ValueError(f"epsilon ({epsilon}) must be > 0, and iterations ({iterations}) >= 1")
    logarithms = scores.float() / epsilon
    for _ in range(iterations):
        logarithms = logarithms - logarithms.logsumexp(dim=0, keepdim=True)
        logarithms = logarithms - logarithms.logsumexp(dim=1, keepdim=True)
    return logarithms.exp()


def swav_loss(scores: Tensor, codes: Tensor, *, temperature: float) -> Tensor:
    """Predicts each code from every other view of its image.

    `-sum_k q_k log softmax(s / T)_k`, averaged over images and over the pairs of a code's view and another view.

    Args:
        scores: `[v, n, K]`: cosines of each view's embeddings and the prototypes; carries the gradient.
        codes: `[a, n, K]`: of the first a views, 1 <= a <= v, each row's sum 1; constants.
        temperature: Divides the scores; positive.

    Returns:
        Scalar, fp32; log K where all scores are equal.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.

    Source: Caron et al. 2020, arXiv:2006.09882, equations 1, 2 and 6.
    """
    views, assigned = scores.shape[0], codes.shape[0]
    if scores.shape[1:] != codes.shape[1:] or scores.ndim != 3 or not 1 <= assigned <= views or views < 2:
        raise ValueError(
            f"expected scores [v, n, K], v >= 2, and codes [a, n, K] of the first of them, "
            f"got {list(scores.shape)} and {list(codes.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    predictions = F.log_softmax(scores.float() / temperature, dim=2)
    with full_precision(scores):
        entropies = -torch.einsum("ank,vnk->av", codes.detach().float(), predictions) / scores.shape[1]
    others = ~torch.eye(assigned, views, dtype=torch.bool, device=scores.device)
    return entropies[others].mean()


def swav_projector(inputs: int, *, hidden: int = 2048, outputs: int = 128) -> ProjectionHead:
    """Builds SwAV's head: Linear-BN-ReLU, then Linear; 2048 -> 2048 -> 128 on ResNet-50.

    Args:
        inputs: Width of the representation.
        hidden: Width of the hidden layer.
        outputs: Width of the embedding.

    Returns:
        The head.

    Source: Caron et al. 2020, arXiv:2006.09882, appendix A.
    """
    return mlp(inputs, hidden, outputs)


class SwAV(Method):
    """Learns an image encoder by swapping the views' cluster assignments.

    Differs from the authors' code: all ranks share one queue, and codes are balanced over their gathered embeddings.

    Args:
        encoder: Gives the representation, which is kept; with small views it must read two sizes.
        config: Prototypes, balancing, queue, head and views.
        context: Sizes of the batch and the views.

    Raises:
        ValueError: There are more prototypes than the batch and the queue have images, or the queue is smaller than the
            batch.
    """

    config_type = SwAVConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: SwAVConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = self.build_projector(encoder.width, config)
        self.prototypes = nn.Linear(self.projector.width, _prototype_count(config, context), bias=False)
        queue_count = _ASSIGNED_VIEWS if config.queue_size else 0
        self.queues = nn.ModuleList(RingBank(config.queue_size, self.projector.width) for _ in range(queue_count))
        self.config = config
        self.image_size_px = context.image_size_px
        require_input_sizes(encoder, [view.size_px for view in self.views()])

    @staticmethod
    def build_projector(inputs: int, config: SwAVConfig) -> ProjectionHead:
        """Builds the head.

        Args:
            inputs: Width of the representation.
            config: Gives its widths.

        Returns:
            SwAV's.
        """
        return swav_projector(inputs, hidden=config.hidden_width, outputs=config.projection_width)

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two large views, which are given codes, and the small ones, which only predict them."""
        return self.config.multi_crop(self.image_size_px)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes how badly each large view's code is predicted from the other views.

        Args:
            batch: Two large views per image, then the small ones.
            progress: Where the queue's start stands.

        Returns:
            The loss; `agreement`, how often the two large views are closest to the same prototype; `used`, the share of
            prototypes that are the closest of some image.
        """
        with torch.no_grad():  # the gradient does not know of the length
            self.prototypes.weight.copy_(unit_rows(self.prototypes.weight))
        embeddings = unit_rows(self.projector(self._represent(batch.views)))
        scores = torch.stack(self._scores(embeddings).chunk(len(batch.views)))  # [v, n, K]
        large = embeddings.detach().chunk(len(batch.views))[:_ASSIGNED_VIEWS]
        codes = torch.stack([self._codes(rows, view, batch.index, progress) for view, rows in enumerate(large)])
        loss = swav_loss(scores, codes, temperature=self.config.temperature)
        closest = scores[:_ASSIGNED_VIEWS].detach().argmax(dim=2)  # [2, n]
        metrics = {
            "agreement": (closest[0] == closest[1]).float().mean(),
            "used": scores.new_zeros(scores.shape[2]).index_fill_(0, closest.flatten(), 1).mean(),
        }
        return LossOutput(loss, torch.cat(large), metrics)

    def after_backward(self, progress: Progress) -> None:
        """Holds the prototypes still at first: without a gradient an optimiser neither moves nor decays them.

        Args:
            progress: Where the training stands.
        """
        if progress.step < self.config.frozen_epochs * progress.steps_per_epoch:
            self.prototypes.weight.grad = None

    def _represent(self, views: Sequence[Tensor]) -> Tensor:
        """Runs the encoder once per size, so that all views of a size share their BatchNorm statistics."""
        sizes = [torch.cat(list(alike)) for _, alike in groupby(views, key=lambda view: view.shape[2:])]
        return torch.cat([self.encoder(pixels) for pixels in sizes])

    def _scores(self, embeddings: Tensor) -> Tensor:
        with full_precision(embeddings):
            return embeddings @ self.prototypes.weight.float().T

    @torch.no_grad()
    def _codes(self, embeddings: Tensor, view: int, index: Tensor, progress: Progress) -> Tensor:
        """Returns this rank's codes of one large view, balanced over all ranks and the queue, and feeds the queue."""
        batch = gather(embeddings)
        queue = cast(RingBank, self.queues[view]) if len(self.queues) else None
        kept = batch[:0] if queue is None or queue.filled < queue.size else queue.valid
        # Embeddings, and not scores, are kept: prototypes have moved since.
        scores = self._scores(torch.cat([batch, kept]))
        if queue is not None and progress.epoch >= self.config.queue_epoch:
            queue.enqueue(batch, gather(index))
        codes = sinkhorn(scores, epsilon=self.config.epsilon, iterations=self.config.sinkhorn_iterations)
        return codes[: len(batch)].view(-1, len(embeddings), codes.shape[1])[rank()]


def _prototype_count(config: SwAVConfig, context: MethodContext) -> int:
    if 0 < config.queue_size < context.batch_size:
        raise ValueError(f"queue_size ({config.queue_size}) must be 0, or at least the batch of {context.batch_size}")
    balanced = context.batch_size + config.queue_size
    if config.prototype_count is None:
        return min(_MOST_OWN_PROTOTYPES, balanced)
    if config.prototype_count > balanced:
        raise ValueError(
            f"prototype_count ({config.prototype_count}) must be <= {balanced}, a batch of {context.batch_size} and a "
            f"queue of {config.queue_size}, or no image is left for some; take fewer, or a larger queue_size"
        )
    return config.prototype_count
