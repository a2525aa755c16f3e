"""SimCLR: two views of an image are drawn together, and apart from all other views of the batch.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", arXiv:2002.05709.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models.heads import SimCLRProjector
from models.image.encoder import ImageEncoder
from training.distributed import gather_with_gradient
from training.losses.nt_xent import nt_xent_scores
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.configs import SimCLRConfig
from training.views.presets import view_of
from training.views.spec import ViewSpec

__all__ = ["SimCLR"]


class SimCLR(Method):
    """Learns an image encoder by telling the views of one image from those of others.

    Args:
        encoder: Gives the representation h, which is kept; the projection g(h), which is compared, is not.
        config: Temperature, head and views.
        context: Gives the size of the views.
    """

    def __init__(self, encoder: ImageEncoder, config: SimCLRConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = SimCLRProjector(encoder.width, hidden=config.hidden_width, outputs=config.projection_width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns two views from one set of changes."""
        config = self.config
        view = view_of(
            config.augmentation, self.image_size_px, strength=config.strength, smallest_crop=config.smallest_crop
        )
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
