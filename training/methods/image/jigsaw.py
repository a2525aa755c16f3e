"""Jigsaw: an image's patches are shuffled, and the encoder says by which of some known permutations.

Source: Noroozi & Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw puzzles",
arXiv:1603.09246; grey images, standardised patches and the head as in Kolesnikov et al. 2019, arXiv:1901.09005.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from models.image.input_sizes import require_input_sizes
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw, sgd
from training.views.patches import PatchConfig, PatchGrid, standardise
from training.views.spec import ViewSpec

__all__ = ["Jigsaw", "JigsawConfig", "distant_permutations", "jigsaw_loss", "shuffle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JigsawConfig(PatchConfig):
    """Jigsaw (Noroozi & Favaro 2016): say how an image's patches were shuffled."""

    grid: int = 3
    """Cells per row and per column, 2 or 3. Paper: 3; images of 32 px have room for 2."""
    permutation_count: int = 100
    """Permutations to tell apart, in [2, (grid²)!], chosen far from one another. A grid of 2 has 24. Published
    reproductions with 2,000 and 10,000 did no better than with 100."""
    permutations_per_image: int = 1
    """Permutations of each image in a step, all different; its patches are encoded once for all of them."""
    patch_width: int = 1000
    """Width that each patch's representation is brought to before they are put side by side."""
    hidden_width: int = 4096
    """Width of the classifier's hidden layer."""
    dropout: float = 0.5
    """Share of the hidden layer that is dropped, in [0, 1)."""

    def __post_init__(self) -> None:
        self.check()
        if self.grid not in (2, 3):
            raise ValueError(f"grid ({self.grid}) must be 2 or 3")
        largest = math.factorial(self.grid**2)
        if not 2 <= self.permutation_count <= largest:
            raise ValueError(f"permutation_count ({self.permutation_count}) must be in [2, {largest}]")
        if not 1 <= self.permutations_per_image <= self.permutation_count:
            raise ValueError(
                f"permutations_per_image ({self.permutations_per_image}) must be in [1, {self.permutation_count}]"
            )
        if self.patch_width < 1 or self.hidden_width < 1:
            raise ValueError(f"patch_width ({self.patch_width}) and hidden_width ({self.hidden_width}) must be >= 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1)")


# Nine cells of a small image would hold nothing: four, and all of their permutations. Several permutations of patches
# that are encoded once cost next to nothing; heads as wide as the paper's would cost more than the encoder.
_FOUR_CELLS = {
    "grid": 2,
    "permutation_count": 24,
    "permutations_per_image": 4,
    "patch_width": 128,
    "hidden_width": 512,
    "dropout": 0.0,
}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(optimiser=adamw(1e-3), settings=_FOUR_CELLS),
    RecipeName.ADAPT: Recipe(optimiser=adamw(1e-4), settings=_FOUR_CELLS),
    # The rate is that of published reproductions with a ResNet-50: 0.1 a 256 images, 5 of 105 epochs to reach it.
    RecipeName.PAPER: Recipe(optimiser=sgd(0.1, 1e-4, warmup=0.05)),
}


def distant_permutations(cells: int, count: int) -> Tensor:
    """Chooses permutations that differ in many places, the same ones in every run.

    The identity comes first; each further one is the farthest, in Hamming distance, from the nearest of those before
    it. Among equals it is the one with the largest sum of distances, and then the first in lexicographic order.

    Args:
        cells: Places, up to 9.
        count: Permutations, in [1, cells!].

    Returns:
        `[count, cells]` int64, all different.

    Raises:
        ValueError: A number is out of its range.

    Source: Noroozi & Favaro 2016, arXiv:1603.09246. Differs: nothing is drawn at random.
    """
    if not 1 <= cells <= 9:
        raise ValueError(f"cells ({cells}) must be in [1, 9]")
    if not 1 <= count <= math.factorial(cells):
        raise ValueError(f"count ({count}) must be in [1, {math.factorial(cells)}], the permutations of {cells}")
    return torch.tensor(_choose_permutations(cells, count))


@cache
def _choose_permutations(cells: int, count: int) -> list[list[int]]:
    every = np.fromiter(itertools.chain.from_iterable(itertools.permutations(range(cells))), dtype=np.uint8)
    columns = np.ascontiguousarray(every.reshape(-1, cells).T)  # [cells, cells!]
    nearest = np.full(columns.shape[1], cells + 1)
    total = np.zeros_like(nearest)
    chosen = [0]
    while len(chosen) < count:
        distance = (columns != columns[:, chosen[-1], None]).sum(axis=0)
        nearest, total = np.minimum(nearest, distance), total + distance
        # A chosen one is at distance 0 from itself, and is not chosen again.
        chosen.append(int((nearest * (cells * count + 1) + total).argmax()))
    return [columns[:, place].tolist() for place in chosen]


def shuffle(features: Tensor, permutations: Tensor) -> Tensor:
    """Puts each image's patches into other places: place k then shows what was in cell `permutation[k]`.

    Args:
        features: `[n, cells, d]`, one row per patch.
        permutations: `[n, p, cells]` int64, p of them per image.

    Returns:
        `[n, p, cells, d]`.
    """
    image = torch.arange(len(features), device=features.device)[:, None, None]
    return features[image, permutations]


def jigsaw_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Names each shuffled image's permutation: cross-entropy, averaged over permutations and images.

    Args:
        logits: `[m, permutations]`, any floating type.
        labels: `[m]` int64.

    Returns:
        Scalar, fp32; log(permutations) where all logits are equal.

    Source: Noroozi & Favaro 2016, arXiv:1603.09246.
    """
    return F.cross_entropy(logits.float(), labels)


class Jigsaw(Method):
    """Learns an image encoder by solving jigsaw puzzles.

    The encoder sees patches one by one and in one pass, so shuffling what it gives is shuffling what it is shown.

    Args:
        encoder: Reads the patches; a convolutional one.
        config: Grid, permutations, heads and views.
        context: Gives the size of the images.

    Raises:
        ValueError: The encoder reads images of one size alone.
    """

    config_type = JigsawConfig
    recipes = RECIPES
    permutations: Tensor
    """`[permutation_count, cells]` int64."""

    def __init__(self, encoder: ImageEncoder, config: JigsawConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.grid = PatchGrid.of(context.image_size_px, side=config.grid, patch_share=config.patch_share)
        require_input_sizes(encoder, [self.grid.patch_px])
        self.encoder = encoder
        self.patch_projector = ProjectionHead([Block(inputs=encoder.width, outputs=config.patch_width)])
        self.classifier = nn.Sequential(
            ProjectionHead([Block(inputs=self.grid.cells * config.patch_width, outputs=config.hidden_width)]),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_width, config.permutation_count),
        )
        self.register_buffer("permutations", distant_permutations(self.grid.cells, config.permutation_count))
        self.config = config

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the one view that patches are taken from; a small image is shown larger than it is."""
        return (self.config.patch_view(self.grid.size_px),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the cross-entropy of the permutations, which are drawn anew for every image.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often the permutation is named.
        """
        images = batch.views[0]
        patches = standardise(self.grid.cut(images, self.grid.draw(len(images), device=images.device)))
        representations = self.encoder(patches.flatten(0, 1))
        features = self.patch_projector(representations).unflatten(0, (-1, self.grid.cells))  # [n, cells, patch_width]
        chances = torch.rand(len(images), len(self.permutations), device=images.device)
        labels = chances.topk(self.config.permutations_per_image).indices  # [n, p], different in a row
        shuffled = shuffle(features, self.permutations[labels])  # [n, p, cells, patch_width]
        logits, labels = self.classifier(shuffled.flatten(2).flatten(0, 1)), labels.flatten()
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return LossOutput(jigsaw_loss(logits, labels), representations.detach(), {"accuracy": accuracy})
