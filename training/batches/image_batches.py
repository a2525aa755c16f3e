"""Batches of images: an order of their own each epoch, read ahead, shown in the method's views on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle.preprocessing import ImagePreprocessing
from training.batches.shuffled import ShuffledItems
from training.batches.support import SupportSampler
from training.methods.base import ImageBatch, Support, SupportSpec
from training.streams import Position, Streams
from training.views.batched import make_views
from training.views.spec import ViewSpec

__all__ = ["ImageFeed", "ImageSource", "LoadedImages"]


# Views are drawn there, so that a run's do not depend on the training device.
_CPU = torch.device("cpu")


class ImageSource(Protocol):
    """Images by number; `training.corpora.image_pack.ImagePack` is one."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads images.

        Args:
            indices: `[m]`.

        Returns:
            `[m, h, w, 3]`, R G B.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoadedImages:
    """Images of one step, on the CPU."""

    pixels: torch.Tensor
    """`[n, h, w, 3]` uint8."""
    places: NDArray[np.int64]
    """`[n]`: each image's place among the training images."""
    support: tuple[torch.Tensor, NDArray[np.int64]] | None = None
    """`[m, h, w, 3]` uint8 and `[m]`: labelled images beside the batch, and their labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFeed:
    """Images in batches of equal size; what is left over at an epoch's end waits for another epoch."""

    source: ImageSource
    """Where pixels are read."""
    indices: NDArray[np.int64]
    """`[n]`: numbers in `source` of the training images; a batch's `index` counts along these."""
    views: Sequence[ViewSpec]
    """What the method wants to see."""
    preprocessing: ImagePreprocessing
    """Its mean and std normalise the views, as they will the images that are served."""
    images_per_step: int = 256
    """Images per step and process."""
    labels: NDArray[np.int64] | None = None
    """`[n]`, -1 where there is none or it is withheld; given only to a method that needs labels."""
    support: SupportSpec | None = None
    """Labelled images that the method wants beside each batch."""
    _sampler: SupportSampler | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Checks that there is one batch, and sorts labelled images by class where a support is wanted."""
        _ = self._shuffled  # refuses fewer items than a batch
        if self.labels is not None and len(self.labels) != len(self.indices):
            raise ValueError(f"labels ({len(self.labels)}) must be as many as indices ({len(self.indices)})")
        if self.support is not None and self.labels is None:
            raise ValueError("a support is drawn from labelled images, and there are no labels")
        if self.support is not None and self.labels is not None:
            sampler = SupportSampler.of(self.labels, images_per_class=self.support.images_per_class)
            object.__setattr__(self, "_sampler", sampler)

    @property
    def item_count(self) -> int:
        """Images of the training split."""
        return len(self.indices)

    @property
    def batch_size(self) -> int:
        """Images per step and process."""
        return self.images_per_step

    def steps_per_epoch(self, world_size: int) -> int:
        """Returns the full batches of a pass, per process.

        Args:
            world_size: Processes that share the pass.

        Returns:
            At least 1.

        Raises:
            ValueError: There is not one batch for each process.
        """
        return self._shuffled.steps_per_epoch(world_size)

    def load(self, position: Position, streams: Streams) -> LoadedImages:
        """Reads one batch.

        Args:
            position: The step.
            streams: `order` is drawn from, per epoch.

        Returns:
            Its pixels and places.
        """
        places = self._shuffled.places(position, streams)
        return LoadedImages(self._read(places), places, self._load_support(position, streams))

    def finish(self, loaded: LoadedImages, position: Position, streams: Streams, device: torch.device) -> ImageBatch:
        """Moves one batch to the training device and makes its views there.

        Args:
            loaded: What `load` gave.
            position: The step.
            streams: `views` is drawn from, per step and rank.
            device: The training device.

        Returns:
            The batch.
        """
        labels = None if self.labels is None else torch.from_numpy(self.labels[loaded.places]).to(device)
        return ImageBatch(
            views=self._show(loaded.pixels, self.views, streams.generator("views", position, _CPU), device),
            index=torch.from_numpy(loaded.places).to(device),
            label=labels,
            support=self._finish_support(loaded, position, streams, device),
        )

    @property
    def _shuffled(self) -> ShuffledItems:
        return ShuffledItems(count=len(self.indices), per_step=self.images_per_step, called="images")

    def _read(self, places: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.source.read(self.indices[places]))

    def _load_support(self, position: Position, streams: Streams) -> tuple[torch.Tensor, NDArray[np.int64]] | None:
        if self._sampler is None:
            return None
        places, labels = self._sampler.draw(streams.rng("support", step=position.step, rank=position.rank))
        return self._read(places), labels

    def _finish_support(
        self, loaded: LoadedImages, position: Position, streams: Streams, device: torch.device
    ) -> Support | None:
        if self.support is None or loaded.support is None:
            return None
        pixels, labels = loaded.support
        views = self._show(pixels, self.support.views, streams.generator("support views", position, _CPU), device)
        return Support(views=views, label=torch.from_numpy(labels).to(device))

    def _show(
        self, pixels: torch.Tensor, specs: Sequence[ViewSpec], generator: torch.Generator, device: torch.device
    ) -> tuple[torch.Tensor, ...]:
        images = pixels.to(device, non_blocking=True)
        views = make_views(images, specs, generator, mean=self.preprocessing.mean, std=self.preprocessing.std)
        return tuple(view.contiguous(memory_format=torch.channels_last) for view in views)
