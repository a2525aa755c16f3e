"""SEER: SwAV in one pass over more images than fit into memory, taken as they come.

Source: Goyal et al. 2021, "Self-supervised pretraining of visual features in the wild", arXiv:2103.01988; Goyal et al.
2022, "Vision models are more robust and fair when pretrained on uncurated images without supervision",
arXiv:2202.08360.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.heads import ProjectionHead, mlp
from training.methods.image.swav import SwAV, SwAVConfig
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, lars

__all__ = ["SEER", "SEERConfig", "seer_projector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SEERConfig(SwAVConfig):
    """SEER (Goyal et al. 2021): SwAV in one pass over uncurated images; run it with `--epochs 1`."""

    epsilon: float = 0.03
    """Divides the scores that Sinkhorn balances; above 0. The 10-billion-parameter model's."""
    sinkhorn_iterations: int = 10
    """Rounds of balancing, at least 1: what is uncurated is uneven, and takes more of them."""
    prototype_count: int | None = 16_000
    """Clusters, at least 2, and at most the images of a step and the queue. Where not given: those, at most 512."""
    frozen_epochs: float = 0.003
    """Part of the one pass, at least 0, in which prototypes are held still: some 300 of the authors' 115,000 steps."""
    queue_epoch: int = 0
    """Pass over the data, from 0, in which the queue starts to fill; there is no later one."""
    projection_width: int = 256
    """Width of the embedding, at least 1."""
    hidden_width: int = 8192
    """Width of the projector's two hidden layers, at least 1."""
    small_views: int = 4
    """Small views of each image; at least 0."""
    small_size_px: int | None = 96
    """Their side, beside large views of 160; three sevenths of the large views' where not given."""


# SwAV's for one machine, with a head in its measure. A pass over thousands of images is a few steps: the prototypes are
# held still for a hundredth of it.
_TWO_VIEWS = {
    "prototype_count": None,
    "hidden_width": 512,
    "projection_width": 128,
    "frozen_epochs": 0.01,
    "small_views": 0,
    "small_size_px": None,
    "augmentation": "strong",
    "smallest_crop": None,
}

# The authors balance 8,704 images of 512 GPUs in a step; SwAV's queue and its 3000 prototypes stand in for them.
_ONE_MACHINE = {"prototype_count": 3000, "queue_size": 3840, "small_size_px": None}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_TWO_VIEWS),
    # An adaptation: the papers train from scratch alone.
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_TWO_VIEWS),
    # The authors' rate, 0.3 a 256 images, and their share of warm-up.
    RecipeName.PAPER: Recipe(optimiser=lars(0.3, 1e-5, warmup=0.044), settings=_ONE_MACHINE),
}


def seer_projector(inputs: int, *, hidden: int = 8192, outputs: int = 256) -> ProjectionHead:
    """Builds SEER's head: Linear-ReLU twice, then Linear, all without BatchNorm.

    In the authors' configurations `"dims": [10444, 8192, 8192, 256], "use_bn": False` [0].

    Args:
        inputs: Width of the representation.
        hidden: Width of the two hidden layers.
        outputs: Width of the embedding.

    Returns:
        The head.

    References:
        - [0] `d10444_d8192_d8192_d256_proto16k.yaml`, https://github.com/facebookresearch/vissl/tree/4bcd8fe
    """
    return mlp(inputs, hidden, hidden, outputs, batch_norm=False)


class SEER(SwAV):
    """Learns an image encoder by SwAV in one pass: each image is seen once, in a batch, and not remembered.

    What it is: SwAV's loss with a head without BatchNorm, more balancing and prototypes that move almost from the
    start. Nothing it keeps grows with the data, and batches are read from disk, so that a folder may be larger than
    memory. One pass is the run's to take: `--epochs 1`.

    What it is not: the papers' results, which rest on scale: a billion uncurated images, RegNetY encoders of up to ten
    billion parameters, and batches of thousands on some 500 GPUs. None of that is reproducible on one machine, and a
    small folder is learnt better by SwAV, in many passes.

    Args:
        encoder: Gives the representation, which is kept; with small views it must read two sizes.
        config: Prototypes, balancing, queue, head and views.
        context: Sizes of the batch and the views.

    Refuses what `SwAV` refuses.
    """

    config_type = SEERConfig
    recipes = RECIPES

    @staticmethod
    def build_projector(inputs: int, config: SwAVConfig) -> ProjectionHead:
        """Builds the head.

        Args:
            inputs: Width of the representation.
            config: Gives its widths.

        Returns:
            SEER's.
        """
        return seer_projector(inputs, hidden=config.hidden_width, outputs=config.projection_width)
