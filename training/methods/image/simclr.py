"""SimCLR: two views of an image are drawn together, and apart from all other views of the batch.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", arXiv:2002.05709.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from training.distributed import gather_with_gradient
from training.losses.precision import full_precision, unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["SimCLR", "SimCLRConfig", "nt_xent_loss", "nt_xent_scores", "simclr_projector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCLRConfig(ViewConfig):
    """SimCLR (Chen et al. 2020): find the other view of an image among all views of the batch."""

    temperature: float = 0.1
    """Divides the cosines; above 0. Paper: 0.1 for ImageNet, 0.5 for CIFAR-10."""
    projection_width: int = 128
    """Width of the projection that the loss compares."""
    hidden_width: int | None = None
    """Width of the projector's hidden layer; as wide as the representation where not given."""
    augmentation: Augmentation = Augmentation.SIMCLR
    """Set of random changes for both views."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if self.projection_width < 1 or (self.hidden_width is not None and self.hidden_width < 1):
            raise ValueError(
                f"projection_width ({self.projection_width}) and hidden_width ({self.hidden_width}) must be >= 1"
            )


_GENTLE_CROPS = {"temperature": 0.1, "augmentation": "strong"}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=adamw(2e-3), settings=_GENTLE_CROPS),
    RecipeName.ADAPT: Recipe(optimiser=adamw(2e-4), settings=_GENTLE_CROPS),
    # Appendix B.9's temperature for CIFAR-10, at lightly's rate: 0.06 a 128 images.
    RecipeName.PAPER: Recipe(optimiser=sgd(0.12, 5e-4), settings={"temperature": 0.5}),
}


def nt_xent_scores(first: Tensor, second: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Scores every view of the batch against every other.

    Args:
        first: `[n, d]`, one view's projections, of any length; they are normalised here.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.
        temperature: Divides the cosines; positive.

    Returns:
        Scores `[2n, 2n]` fp32, a view against itself -inf; and `[2n]` int64, each row's positive.

    Raises:
        ValueError: The shapes differ, the batch is empty, or the temperature is not positive.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] == 0:
        raise ValueError(
            f"the views must be two equal [n, d], n >= 1, got {list(first.shape)} and {list(second.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature ({temperature}) must be > 0")
    count = first.shape[0]
    with full_precision(first):
        views = unit_rows(torch.cat([first, second]))
        scores = views @ views.T / temperature
        scores = scores.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=first.device), float("-inf"))
    positives = torch.arange(2 * count, device=first.device).roll(count)
    return scores, positives


def nt_xent_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Draws the two views of an image together and apart from every other view in the batch.

    For view i with positive p: `-s_ip / T + log sum_(k != i) exp(s_ik / T)`, s the cosine, averaged over all 2n views.
    The authors' code returns the sum of the two directions, which is twice this value.

    Args:
        first: `[n, d]`, one view's projections, of any length.
        second: `[n, d]`, the other view's; row i shows the image of `first`'s row i.
        temperature: Divides the cosines. Paper: 0.1 for ImageNet, 0.5 for CIFAR-10.

    Returns:
        Scalar, fp32; log(2n - 1) where all projections are equal.

    Refuses what `nt_xent_scores` refuses.

    Source: Chen et al. 2020, arXiv:2002.05709, equation 1.
    """
    scores, positives = nt_xent_scores(first, second, temperature=temperature)
    return F.cross_entropy(scores, positives)


def simclr_projector(inputs: int, *, hidden: int | None = None, outputs: int = 128) -> ProjectionHead:
    """Builds SimCLR's head: h -> Linear-BN-ReLU -> Linear-BN.

    "We use a MLP with one hidden layer to obtain z_i = g(h_i) = W(2) sigma(W(1) h_i) where sigma is a ReLU
    non-linearity" [0]; the hidden layer is as wide as h. In the authors' code each linear layer is followed by
    BatchNorm and has no bias of its own: "for the middle layers, use bias and relu for the output", where the bias is
    the BatchNorm's centre, and "for the final layer, neither bias nor relu is used" [1].

    Args:
        inputs: Width of h.
        hidden: Width of the hidden layer; None: as wide as h.
        outputs: Width of z.

    Returns:
        The head.

    References:
        - [0] SimCLR, 2020, section 2.1, https://arxiv.org/abs/2002.05709
        - [1] `projection_head`, https://github.com/google-research/simclr/blob/383d414/model_util.py
    """
    middle = inputs if hidden is None else hidden
    return ProjectionHead(
        [
            Block(inputs=inputs, outputs=middle, bias=False),
            Block(inputs=middle, outputs=outputs, bias=False, centre=False, relu=False),
        ]
    )


class SimCLR(Method):
    """Learns an image encoder by telling the views of one image from those of others.

    Args:
        encoder: Gives the representation h, which is kept; the projection g(h), which is compared, is not.
        config: Temperature, head and views.
        context: Gives the size of the views.
    """

    config_type = SimCLRConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: SimCLRConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = simclr_projector(encoder.width, hidden=config.hidden_width, outputs=config.projection_width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two views from one set of changes."""
        view = self.config.view(self.image_size_px)
        return view, view

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes NT-Xent over the views of all ranks.

        Args:
            batch: Two views per image.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often a view's best-scored other view is its own image's.
        """
        # Both views in one pass: each view is normalised with the statistics of the whole batch.
        projections = self.projector(self.encoder(torch.cat(batch.views)))
        first, second = projections.chunk(2)
        scores, positives = nt_xent_scores(
            gather_with_gradient(first), gather_with_gradient(second), temperature=self.config.temperature
        )
        accuracy = (scores.detach().argmax(dim=1) == positives).float().mean()
        return LossOutput(F.cross_entropy(scores, positives), projections.detach(), {"accuracy": accuracy})
