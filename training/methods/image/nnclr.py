"""NNCLR: a view's nearest neighbour among recent images stands for it when its image's other view is to be found.

Source: Dwibedi, Aytar, Tompson, Sermanet & Zisserman 2021, "With a little help from my friends: nearest-neighbor
contrastive learning of visual representations", arXiv:2104.14548.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.heads import Block, ProjectionHead, mlp
from models.image.encoder import ImageEncoder
from training.distributed import gather, gather_with_gradient, rank
from training.losses.info_nce import candidate_scores, info_nce_accuracy, info_nce_loss
from training.losses.neighbours import nearest_neighbours
from training.losses.precision import unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars
from training.state.ring_bank import RingBank, check_bank_size, own_bank_size
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["NNCLR", "NNCLRConfig", "nnclr_loss", "nnclr_predictor", "nnclr_projector"]

_LARGEST_OWN_QUEUE = 8192
"""Where the queue's size is not given: published runs on CIFAR-10 have 4,096 to 8,192."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NNCLRConfig(ViewConfig):
    """NNCLR (Dwibedi et al. 2021): find an image's other view by the nearest neighbour of this one."""

    queue_size: int | None = 98_304
    """Recent projections to search, at least the batch and below the data set minus a batch. Where not given: half of
    the data set, at most 8,192. Paper: the support set."""
    temperature: float = 0.1
    """Divides the cosines; above 0. Paper: tau."""
    projection_width: int = 256
    """Width of the projection and of its prediction, at least 1. Paper: d."""
    hidden_width: int = 2048
    """Width of the projector's two hidden layers, at least 1."""
    predictor_width: int = 4096
    """Width of the predictor's hidden layer, at least 1."""
    augmentation: Augmentation = Augmentation.BYOL_FIRST
    """Set of random changes. With byol-first the second view is byol-second, as in the paper; any other is both
    views'."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        for name in ("queue_size", "projection_width", "hidden_width", "predictor_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be >= 1")


# Heads that small encoders can fill, crops as gentle as MoCo's, and a queue that the data set can.
_SMALL_IMAGES = {"queue_size": None, "hidden_width": 512, "predictor_width": 1024, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_SMALL_IMAGES),
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_SMALL_IMAGES),
    # The authors' rate, 0.3 a 256 images, without their batch of 4096.
    RecipeName.PAPER: Recipe(optimiser=lars(0.3, 1e-6), settings={"queue_size": None}),
}


def nnclr_loss(neighbours: Tensor, predictions: Tensor, *, temperature: float) -> Tensor:
    """Picks the other view of each image out of the batch, by the nearest neighbour of the one.

    `-log exp(nn_i · p_i / T) / sum_j exp(nn_i · p_j / T)`, averaged over the images: nn_i the neighbour of one view's
    projection, p_j the predictions of the other views. Where each projection is its own neighbour, this is InfoNCE
    between the views, whose negatives are of the other view alone. The paper's loss, like the method's, is the mean of
    the two directions.

    Args:
        neighbours: `[n, d]`, unit rows, of one view; constants.
        predictions: `[n, d]`, unit rows, of the other view; carries the gradient.
        temperature: Divides the cosines. Paper: 0.1.

    Returns:
        Scalar, fp32; log(n) where all cosines are equal.

    Refuses what `candidate_scores` refuses.

    Source: Dwibedi et al. 2021, arXiv:2104.14548, equation 3.
    """
    scores = candidate_scores(neighbours.detach(), predictions, temperature=temperature)
    return info_nce_loss(scores, torch.arange(len(scores), device=scores.device))


def nnclr_projector(inputs: int, *, hidden: int = 2048, outputs: int = 256) -> ProjectionHead:
    """Builds NNCLR's projector: two hidden layers and the output, each with BatchNorm, all but the last with ReLU.

    "3 fully connected layers of sizes [2048,2048,d] where d is the embedding size used to apply the loss", 256 unless
    otherwise stated; "all the batch-norm layers except the last layer are followed by ReLU activation" [0].

    Args:
        inputs: Width of the representation.
        hidden: Width of both hidden layers.
        outputs: Width of the projection.

    Returns:
        The head.

    References:
        - [0] NNCLR, 2021, section 4.1, https://arxiv.org/abs/2104.14548
    """
    return ProjectionHead(
        [
            Block(inputs=inputs, outputs=hidden),
            Block(inputs=hidden, outputs=hidden),
            Block(inputs=hidden, outputs=outputs, relu=False),
        ]
    )


def nnclr_predictor(width: int, *, hidden: int = 4096) -> ProjectionHead:
    """Builds NNCLR's predictor: d -> Linear-BatchNorm-ReLU -> Linear -> d.

    "2 fully-connected layers of size [4096,d]. The hidden layer of the prediction MLP is followed by batch-norm and
    ReLU. The last layer has no batch-norm or activation" [0].

    Args:
        width: Of the projection, and of its prediction.
        hidden: Width of the hidden layer.

    Returns:
        The head.

    References:
        - [0] NNCLR, 2021, section 4.1, https://arxiv.org/abs/2104.14548
    """
    return mlp(width, hidden, width)


class NNCLR(Method):
    """Learns an image encoder by the nearest neighbours of its views.

    The first views' projections enter the queue, after both views have looked for their neighbours. Until there is a
    queue, in the first step, a projection is its own neighbour; the authors start from random ones.

    Args:
        encoder: Gives the representation, which is kept.
        config: Queue, temperature, heads and views.
        context: Sizes of the data set, the batch and the views.

    Raises:
        ValueError: The queue is not in [batch, data set - batch).
    """

    needs = Needs(index=True, dataset_size=True)
    config_type = NNCLRConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: NNCLRConfig, *, context: MethodContext) -> None:
        super().__init__()
        queue_size = _queue_size(config, context)
        check_bank_size(queue_size, dataset_size=context.dataset_size, batch_size=context.batch_size)
        self.encoder = encoder
        self.projector = nnclr_projector(encoder.width, hidden=config.hidden_width, outputs=config.projection_width)
        self.predictor = nnclr_predictor(config.projection_width, hidden=config.predictor_width)
        self.queue = RingBank(queue_size, config.projection_width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the two views, which differ in blur and solarisation where they are the paper's."""
        return self.config.pair(self.image_size_px)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes InfoNCE of each view's neighbour against the other views' predictions of all ranks.

        Args:
            batch: Two views per image.
            progress: Unused.

        Returns:
            The loss, the mean of both directions; `accuracy`, how often a neighbour's best prediction is its image's;
            `self_fraction`, how many neighbours are old copies of the same image.
        """
        projections = self.projector(self.encoder(torch.cat(batch.views)))
        predictions = unit_rows(self.predictor(projections)).chunk(2)  # p
        own = unit_rows(projections.detach()).chunk(2)  # z
        neighbours, copies = self._neighbours(torch.cat(own), batch.index.repeat(2))
        self.queue.enqueue(gather(own[0]), gather(batch.index))
        # Each view's neighbours against the other view's predictions; this rank's rows against all ranks'.
        scores = [
            candidate_scores(found, gather_with_gradient(others), temperature=self.config.temperature)
            for found, others in zip(neighbours.chunk(2), reversed(predictions), strict=True)
        ]
        count = len(batch.index)
        positives = torch.arange(count, device=projections.device) + count * rank()
        loss = torch.stack([info_nce_loss(each, positives) for each in scores]).mean()
        accuracy = info_nce_accuracy(torch.cat(scores), positives.repeat(2))
        return LossOutput(loss, torch.cat(own), {"accuracy": accuracy, "self_fraction": copies})

    def _neighbours(self, rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns each row's nearest in the queue, and the share that are old copies of the row's image."""
        if self.queue.filled == 0:
            return rows, rows.new_zeros(())
        slots = nearest_neighbours(rows, self.queue.valid, count=1).slots
        copies = self.queue.self_fraction(slots, torch.full_like(index, -1), index)  # no row is in the queue yet
        return self.queue.valid[slots[:, 0]], copies


def _queue_size(config: NNCLRConfig, context: MethodContext) -> int:
    if config.queue_size is not None:
        return config.queue_size
    return own_bank_size(_LARGEST_OWN_QUEUE, dataset_size=context.dataset_size, batch_size=context.batch_size)
