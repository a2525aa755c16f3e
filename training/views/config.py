"""What a user may say of a method's views. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.views.kinds import view_of_kinds
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

__all__ = ["MultiCropConfig", "ViewConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig:
    """The part of a method's configuration that declares its views; a method's own configuration extends it."""

    augmentation: Augmentation = Augmentation.STRONG
    """Set of random changes."""
    strength: float = 1.0
    """Factor on the colour changes, at least 0."""
    smallest_crop: float | None = None
    """Least area of a view's crop as a fraction of the image's, in (0, 1]; the set's own where not given. Drawings and
    logos, which a small crop makes unrecognisable, want 0.35 to 0.5."""
    kinds: tuple[str, ...] | None = None
    """Only these kinds of change, of crop, flip, colour, grey, blur, solarise, rotation and erasing; all of the set's
    where not given."""

    def view(self, size_px: int, augmentation: Augmentation | None = None) -> ViewSpec:
        """Returns a view with these settings.

        Args:
            size_px: Its side.
            augmentation: Another set of changes, for a method whose views differ.

        Returns:
            The view.
        """
        view = view_of(
            self.augmentation if augmentation is None else augmentation,
            size_px,
            strength=self.strength,
            smallest_crop=self.smallest_crop,
        )
        return view if self.kinds is None else view_of_kinds(view, self.kinds)

    def pair(self, size_px: int) -> tuple[ViewSpec, ViewSpec]:
        """Returns the two views of an image; with byol-first the second is byol-second, as in BYOL's paper.

        Args:
            size_px: Their side.

        Returns:
            The views; any other set of changes makes both.
        """
        is_byols = self.augmentation is Augmentation.BYOL_FIRST
        return self.view(size_px), self.view(size_px, Augmentation.BYOL_SECOND if is_byols else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiCropConfig(ViewConfig):
    """Two large views of an image and some small ones, which cost little and show other parts of it."""

    largest_small_crop: float = 0.4
    """Area, as a fraction of the image's, that parts the large views' crops from the small ones'."""
    small_views: int = 0
    """Small views of each image."""
    small_size_px: int | None = None
    """Their side; three sevenths of the large views' where not given, as 96 of 224."""

    def multi_crop(self, size_px: int) -> tuple[ViewSpec, ...]:
        """Returns the views: two large ones, then the small ones.

        Args:
            size_px: Side of the large ones.

        Returns:
            `2 + small_views` views; without small ones the large crops keep the set's own range.

        Raises:
            ValueError: A number is out of its range.
        """
        large = self.view(size_px)
        if self.small_views == 0:
            return large, large
        edge, least = self.largest_small_crop, large.crop_scale[0]
        if not least < edge < 1 or self.small_views < 0:
            raise ValueError(
                f"largest_small_crop ({edge}) must be above the smallest crop ({least}) and below 1, "
                f"and small_views ({self.small_views}) >= 0"
            )
        side = max(8, round(size_px * 3 / 7)) if self.small_size_px is None else self.small_size_px
        if not 1 <= side <= size_px:
            raise ValueError(f"small_size_px ({side}) must be in [1, {size_px}]")
        small = replace(large, size_px=side, crop_scale=(least, edge))
        return (replace(large, crop_scale=(edge, 1.0)),) * 2 + (small,) * self.small_views
