"""Patches of a grid over an image, for the methods that learn where in it they are from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = ["PatchConfig", "PatchGrid", "standardise"]

_SMALLEST_CELL_PX = 10
_SMALLEST_PATCH_PX = 8
"""An encoder's four halvings leave something of this much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchConfig(ViewConfig):
    """The part of a method's configuration that says how patches are taken from an image."""

    patch_share: float = 0.75
    """Side of a patch as a share of its cell's, in (0, 1); patches are at least 8 px. Paper: 64 of 85 px."""
    grey_probability: float = 0.66
    """Of the whole image, in [0, 1]: lenses split colours towards the border, which would tell a patch's place."""
    augmentation: Augmentation = Augmentation.WEAK
    """Set of random changes for the image that patches are taken from."""
    smallest_crop: float | None = 0.76
    """Least area of the image's crop as a fraction of the image's, in (0, 1]. Paper: (255 / 292)²."""

    def check(self) -> None:
        """Refuses what is out of range; the configurations that extend this one call it.

        Raises:
            ValueError: A share or probability is out of its range.
        """
        if not 0 < self.patch_share < 1:
            raise ValueError(f"patch_share ({self.patch_share}) must be in (0, 1)")
        if not 0 <= self.grey_probability <= 1:
            raise ValueError(f"grey_probability ({self.grey_probability}) must be in [0, 1]")

    def patch_view(self, size_px: int) -> ViewSpec:
        """Returns the view that patches are taken from.

        Args:
            size_px: Its side, `PatchGrid.size_px`.

        Returns:
            The view.
        """
        return replace(self.view(size_px), grey_probability=self.grey_probability)


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Square cells that fill an image, each with one patch somewhere inside.

    A patch keeps clear of its neighbours: lines that run on from one into the other would tell that they are
    neighbours. Differs from the papers' code: it may stand anywhere in its cell but for the last row and column, so
    that there is always a pixel between two patches.
    """

    side: int
    """Cells per row and per column."""
    cell_px: int
    """Side of a cell."""
    patch_px: int
    """Side of a patch, below the cell's."""

    def __post_init__(self) -> None:
        """Checks that a patch fits."""
        if self.side < 1 or not 1 <= self.patch_px < self.cell_px:
            raise ValueError(
                f"side ({self.side}) must be >= 1 and patch_px ({self.patch_px}) in [1, cell_px ({self.cell_px}))"
            )

    @classmethod
    def of(cls, image_size_px: int, *, side: int, patch_share: float) -> PatchGrid:
        """Returns the grid for images of a size.

        Args:
            image_size_px: Side of the images; below 10 px a cell, they are shown larger than they are.
            side: Cells per row and per column.
            patch_share: Side of a patch as a share of its cell's, in (0, 1).

        Returns:
            A grid whose patches are at least 8 px.
        """
        cell_px = max(_SMALLEST_CELL_PX, image_size_px // side)
        return cls(side, cell_px, min(cell_px - 1, max(_SMALLEST_PATCH_PX, round(cell_px * patch_share))))

    @property
    def cells(self) -> int:
        """Cells of the whole grid."""
        return self.side**2

    @property
    def size_px(self) -> int:
        """Side of the image that the cells fill."""
        return self.side * self.cell_px

    def draw(self, count: int, *, device: torch.device) -> Tensor:
        """Draws where in its cell each patch stands, with torch's default generator.

        Args:
            count: Images.
            device: Where the patches are.

        Returns:
            `[count, cells, 2]` int64: rows and columns below the cell's corner, in [0, cell_px - patch_px).
        """
        return torch.randint(0, self.cell_px - self.patch_px, (count, self.cells, 2), device=device)

    def cut(self, images: Tensor, offsets: Tensor) -> Tensor:
        """Takes the patches out.

        Args:
            images: `[n, c, size_px, size_px]`.
            offsets: `[n, cells, 2]` int64, as `draw` gives them.

        Returns:
            `[n, cells, c, patch_px, patch_px]`: row by row, from the top left.

        Raises:
            ValueError: The images are of another size.
        """
        if images.shape[2:] != (self.size_px, self.size_px):
            raise ValueError(f"images must be of {self.size_px} px, got {list(images.shape[2:])}")
        cells = torch.arange(self.cells, device=images.device)
        corners = torch.stack([cells // self.side, cells % self.side], dim=1) * self.cell_px
        places = (corners + offsets)[:, :, :, None] + torch.arange(self.patch_px, device=images.device)
        rows, columns = places.unbind(dim=2)  # [n, cells, patch_px] each
        image = torch.arange(len(images), device=images.device)[:, None, None, None]
        patches = images.permute(0, 2, 3, 1)[image, rows[:, :, :, None], columns[:, :, None, :]]
        return patches.permute(0, 1, 4, 2, 3)


def standardise(patches: Tensor) -> Tensor:
    """Gives every patch a mean of 0 and a standard deviation of 1 in each channel.

    Neighbours have similar brightness, contrast and tint, which would tell that they are neighbours. A patch of one
    colour becomes 0; the deviation that divides is at least 1 / sqrt(pixels), so that faint noise is not blown up.

    Args:
        patches: `[..., h, w]`.

    Returns:
        As `patches`, fp32.
    """
    exact = patches.float()
    centred = exact - exact.mean(dim=(-2, -1), keepdim=True)
    deviation = centred.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return centred / deviation.clamp_min((patches.shape[-2] * patches.shape[-1]) ** -0.5)
