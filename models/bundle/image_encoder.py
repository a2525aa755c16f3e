"""An image encoder as it is served: preprocessing and graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Prepared, Purpose
from models.bundle.pixels import decode_image, normalise_image, resize_image
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.session import OnnxSession

__all__ = ["IMAGE_INPUT", "IMAGE_OUTPUT", "OnnxImageEncoder"]

IMAGE_INPUT = "pixel_values"
"""The graph's input, `[n, 3, h, w]` float32."""
IMAGE_OUTPUT = "image_embedding"
"""The graph's output, `[n, dimension]`."""


class OnnxImageEncoder:
    """Embeds images; safe to call from several threads.

    Args:
        session: The graph.
        preprocessing: What is done to an image before the graph sees it.
        info: What callers may know.
    """

    def __init__(self, session: OnnxSession, preprocessing: ImagePreprocessing, *, info: EncoderInfo) -> None:
        self._session = session
        self._preprocessing = preprocessing
        self._info = info

    @property
    def info(self) -> EncoderInfo:
        """What callers may know of it."""
        return self._info

    def with_info(self, info: EncoderInfo) -> OnnxImageEncoder:
        """Returns this encoder under other names; the graph is shared.

        Args:
            info: What callers may know of it.

        Returns:
            The encoder.
        """
        return OnnxImageEncoder(self._session, self._preprocessing, info=info)

    def prepare(
        self,
        item: str | bytes,
        *,
        purpose: Purpose = Purpose.DOCUMENT,  # noqa: ARG002 - of the interface; images have no prompts
        truncate: bool = True,  # noqa: ARG002 - of the interface; images are scaled, not cut
    ) -> Prepared:
        """Decodes, scales and normalises an image.

        Args:
            item: The encoded image.
            purpose: Makes no difference to an image.
            truncate: Makes no difference to an image.

        Returns:
            The pixels; the cost is their number.

        Raises:
            ValueError: The item is a text, or `ImageError`: it is no image, damaged, or over a limit.
        """
        if isinstance(item, str):
            raise ValueError(
                f"encoder '{self._info.name}' reads images, not texts; send an image or name another encoder"
            )
        rgb = decode_image(item, self._preprocessing)
        pixels = normalise_image(resize_image(rgb, self._preprocessing), self._preprocessing)
        return Prepared(pixels, self._preprocessing.size_px**2)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Embeds prepared images in one call of the graph.

        Args:
            batch: At least one prepared image.

        Returns:
            `[n, dimension]`, in the order given.
        """
        return self._session.run(IMAGE_OUTPUT, {IMAGE_INPUT: np.stack([item.array for item in batch])})
