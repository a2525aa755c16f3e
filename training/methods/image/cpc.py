"""CPC: an image's patches, read row by row from the top, foretell the patches of the rows below.

Source: van den Oord, Li & Vinyals 2018, "Representation learning with contrastive predictive coding", arXiv:1807.03748,
section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.image.encoder import ImageEncoder
from training.distributed import gather_with_gradient, rank
from training.losses.info_nce import candidate_scores, info_nce_accuracy, info_nce_loss
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["CPC", "CPCConfig", "PatchGrid", "RowGRU", "cpc_scores"]


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
"""What keeps running averages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CPCConfig(ViewConfig):
    """CPC (van den Oord et al. 2018): foretell an image's lower patches from its upper ones."""

    grid_size: int = 7
    """Patches along a side of the image, at least 2; each is encoded by itself, so a step costs its square."""
    overlap: float = 0.5
    """Part of a patch's side that it shares with the next patch, in [0, 1)."""
    patch_crop: float = 60 / 64
    """Side of the part of a patch that is shown, at a place drawn anew each step, over the patch's; in (0, 1]."""
    largest_step: int = 5
    """Rows from a context to the furthest patches it foretells, below `grid_size`. The nearest are those in the first
    row that shares no pixel with the context's."""
    context_width: int = 256
    """Width of the context, at least 1; the paper gives it for audio alone."""
    grey_probability: float = 1.0
    """Of a grey image, in [0, 1]: an image's colours would give its patches away."""
    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes for the image, before it is cut."""
    smallest_crop: float | None = 0.73
    """Least area of the image's crop, as a fraction; the paper's is 256 of 300 px a side."""

    def __post_init__(self) -> None:
        if self.grid_size < 2:
            raise ValueError(f"grid_size ({self.grid_size}) must be >= 2")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap ({self.overlap}) must be in [0, 1)")
        if not 0 < self.patch_crop <= 1:
            raise ValueError(f"patch_crop ({self.patch_crop}) must be in (0, 1]")
        if not self.first_step <= self.largest_step < self.grid_size:
            raise ValueError(
                f"largest_step ({self.largest_step}) must be in [{self.first_step}, {self.grid_size - 1}]: from the "
                f"first row without common pixels to the last of the grid"
            )
        if self.context_width < 1:
            raise ValueError(f"context_width ({self.context_width}) must be >= 1")
        if not 0 <= self.grey_probability <= 1:
            raise ValueError(f"grey_probability ({self.grey_probability}) must be in [0, 1]")

    @property
    def first_step(self) -> int:
        """Rows from a context to the first that shares no pixel with it."""
        return math.ceil(round(1 / (1 - self.overlap), 6))


# Nine patches side by side: of a small image, 49 would be a few pixels each. Half of the images keep their colours,
# which are much of what tells small images apart, and which the kept encoder is to read.
_SMALL_IMAGES = {"grid_size": 3, "overlap": 0.0, "patch_crop": 0.9, "largest_step": 2, "grey_probability": 0.5}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(1e-3), settings=_SMALL_IMAGES),
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=adamw(1e-4), settings=_SMALL_IMAGES),
    # The share of one of the authors' 32 GPUs, and their Adam's rate; 49 patches of each image.
    RecipeName.PAPER: Recipe(batch_size=16, optimiser=adamw(2e-4, 0.0, warmup=0.0)),
}


def cpc_scores(predictions: Tensor, patches: Tensor, *, step: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Scores each prediction against every patch: `z · W_k c`, neither normalised nor divided by a temperature.

    The positive of row r and column c is the patch of row r + k and column c in the same image. All other patches of
    the batch are its negatives: of other images, which tell what is foretold, and of its own, which tell where.

    Args:
        predictions: `[n, g - k, g, d]`: W_k c for the contexts that have a row k below them.
        patches: `[m, g, g, d]`: z of every image of the batch, these n among them.
        step: The k, in `[1, g)`.
        first: Place among the m images of the first of the n.

    Returns:
        Scores `[n * (g - k) * g, m * g * g]` fp32; and `[n * (g - k) * g]` int64, each prediction's positive.

    Raises:
        ValueError: The shapes do not fit each other and the step.

    Source: van den Oord et al. 2018, arXiv:1807.03748, equation 3.
    """
    count, rows, grid = predictions.shape[:3]
    if patches.shape[1:3] != (grid, grid) or rows != grid - step or first + count > len(patches):
        raise ValueError(
            f"at step {step}, predictions and patches must be [n, g - {step}, g, d] and [m, g, g, d], {first} + n <= "
            f"m, got {list(predictions.shape)} and {list(patches.shape)}"
        )
    places = torch.arange(len(patches) * grid * grid, device=patches.device).view(-1, grid, grid)
    positives = places[first : first + count, step:].flatten()
    return candidate_scores(predictions.flatten(0, 2), patches.flatten(0, 2)), positives


class PatchGrid:
    """Where an image is cut, in whole pixels.

    Args:
        config: Grid, overlap and crop.
        image_px: Side of the image.

    Raises:
        ValueError: A patch would have less than two pixels a side.
    """

    def __init__(self, config: CPCConfig, image_px: int) -> None:
        self.grid_size = config.grid_size
        self.image_px = image_px
        self.patch_px = int(image_px / (1 + (config.grid_size - 1) * (1 - config.overlap)) + 1e-6)
        self.shown_px = max(1, round(self.patch_px * config.patch_crop))
        if self.patch_px < 2:
            raise ValueError(f"grid_size ({config.grid_size}) leaves {self.patch_px} px to a patch of {image_px} px")

    def start(self, place: int) -> int:
        """Returns the first pixel of a row or column of patches.

        Args:
            place: Its number, in [0, grid_size).

        Returns:
            The pixel; patches that are `first_step` apart share none.
        """
        return place * (self.image_px - self.patch_px) // (self.grid_size - 1)

    def cut(self, images: Tensor) -> Tensor:
        """Cuts images into patches, enlarged to the size of the image, each row of patches from left to right.

        Args:
            images: `[n, 3, image_px, image_px]` float.

        Returns:
            `[n * grid_size**2, 3, image_px, image_px]`: the shown parts. Where they lie in their patches is drawn from
            torch's generator for each place of the grid, alike for all images.
        """
        slack = self.patch_px - self.shown_px
        shown = []
        for row in range(self.grid_size):
            for column in range(self.grid_size):
                down, right = torch.randint(slack + 1, (2,)).tolist() if slack else (0, 0)
                top, left = self.start(row) + down, self.start(column) + right
                shown.append(images[:, :, top : top + self.shown_px, left : left + self.shown_px])
        patches = torch.stack(shown, dim=1).flatten(0, 1)
        return F.interpolate(patches, size=self.image_px, mode="bilinear")


class RowGRU(nn.Module):
    """Reads rows of patches from the top: a row's contexts know their row and those above, and nothing below.

    A gated recurrent unit whose products are convolutions along the row. The paper's context network is a PixelCNN;
    "a convolutional row-GRU PixelRNN gave similar results".

    Args:
        inputs: Width of a patch's vector.
        width: Width of a context.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.inputs = nn.Conv1d(inputs, 3 * width, 3, padding=1)
        self.gates = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.candidate = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, patches: Tensor) -> Tensor:
        """Computes the contexts.

        Args:
            patches: `[n, rows, columns, inputs]`.

        Returns:
            `[n, rows, columns, width]`, in (-1, 1).
        """
        state = patches.new_zeros(len(patches), self.width, patches.shape[2])
        states = []
        for row in patches.unbind(dim=1):
            to_update, to_reset, to_candidate = self.inputs(row.transpose(1, 2)).chunk(3, dim=1)
            from_update, from_reset = self.gates(state).chunk(2, dim=1)
            update, reset = (to_update + from_update).sigmoid(), (to_reset + from_reset).sigmoid()
            state = torch.lerp(state, (to_candidate + self.candidate(reset * state)).tanh().float(), update.float())
            states.append(state.transpose(1, 2))
        return torch.stack(states, dim=1)


class CPC(Method):
    """Learns an image encoder by contrastive predictive coding.

    The encoder sees patches in training and the whole image when it is evaluated and served. So each patch is enlarged
    to the size of the image: the encoder then meets both at the same size, as in methods that crop, and any encoder
    will do. And BatchNorm's running averages, which training does not use, follow the whole images.

    Differs from the paper: the authors serve the mean over the patches, and have neither BatchNorm in the encoder nor
    LayerNorm on z. Context and predictions are free of BatchNorm, which would tell them of the patches to foretell.

    Args:
        encoder: Gives a patch's vector, and the representation of a whole image; is kept.
        config: Grid, steps, context and view.
        context: Gives the size of the view.

    Raises:
        ValueError: The image is too small for the grid.
    """

    config_type = CPCConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: CPCConfig, *, context: MethodContext) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.width)
        self.context = RowGRU(encoder.width, config.context_width)
        self.steps = range(config.first_step, config.largest_step + 1)
        # W_k, one for each step; small, so that the loss starts near its value for equal scores.
        self.predictors = nn.ModuleList(nn.Linear(config.context_width, encoder.width, bias=False) for _ in self.steps)
        for predictor in self.predictors.parameters():
            nn.init.normal_(predictor, std=(config.context_width * encoder.width) ** -0.5)
        self.config = config
        self.grid = PatchGrid(config, context.image_size_px)

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns one view: the image that is cut."""
        view = self.config.view(self.grid.image_px)
        return (replace(view, grey_probability=self.config.grey_probability),)

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes InfoNCE of each prediction among the patches of all images of all ranks.

        Args:
            batch: One view per image.
            progress: Unused.

        Returns:
            The loss, the mean over the steps; `accuracy`, how often a prediction's best patch is the right one;
            `information_nats`, log N minus the loss for N patches: no more than contexts and patches share.
        """
        [images] = batch.views
        count = len(images)
        with _averages_of(self.encoder, images):
            encoded = self.encoder(self.grid.cut(images))
        patches = self.norm(encoded.float()).view(count, self.grid.grid_size, self.grid.grid_size, -1)  # z
        contexts = self.context(patches)  # c
        candidates = gather_with_gradient(patches)
        losses, accuracies = [], []
        for step, predictor in zip(self.steps, self.predictors, strict=True):
            predictions = predictor(contexts[:, :-step])
            scores, positives = cpc_scores(predictions, candidates, step=step, first=count * rank())
            losses.append(info_nce_loss(scores, positives))
            accuracies.append(info_nce_accuracy(scores, positives))
        loss = torch.stack(losses).mean()
        information = math.log(candidates.shape[:3].numel()) - loss.detach()
        metrics = {"accuracy": torch.stack(accuracies).mean(), "information_nats": information}
        return LossOutput(loss, patches.detach().flatten(0, 2), metrics)


@contextmanager
def _averages_of(encoder: nn.Module, images: Tensor) -> Iterator[None]:
    """Lets BatchNorm's running averages follow these images, and within the context nothing else."""
    norms = [module for module in encoder.modules() if isinstance(module, _NORMS) and module.training]
    if norms:
        with torch.no_grad():
            encoder(images)
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
