"""From an image's encoded bytes to what an encoder reads: the one implementation for evaluation, export and serving.

Three pure steps: `decode_image` (bytes to RGB), `resize_image` (any size to the encoder's square), `normalise_image`
(integers to floats). Nothing here touches Pillow's process-wide settings, so limits hold per call and from any thread.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.bundle.preprocessing import ImagePreprocessing, Resize

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "ImageError",
    "ImagePreprocessing",
    "ImageTooLargeError",
    "Resize",
    "decode_image",
    "normalise_image",
    "resize_image",
]

MAX_IMAGE_PIXELS: Final = 40_000_000
"""Width times height that is decoded unless the caller says otherwise: 120 MB of RGB."""
MAX_IMAGE_BYTES: Final = 32 * 1024 * 1024
"""Encoded bytes that are looked at unless the caller says otherwise."""

_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """Bytes that are no image we read."""


class ImageTooLargeError(ImageError):
    """An image over the limit on its bytes or pixels; it was not decoded."""


def decode_image(
    data: bytes,
    preprocessing: ImagePreprocessing | None = None,
    *,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> NDArray[np.uint8]:
    """Decodes JPEG, PNG, WebP, BMP or the first frame of a GIF, upright, onto a background.

    Grey becomes RGB, CMYK is converted, 16 bits become 8, palettes are resolved.

    Args:
        data: The encoded image.
        preprocessing: Says what shows through transparent parts, and whether a large JPEG is decoded smaller; white
            and whole where None.
        max_pixels: Limit on width times height, read from the header before anything is decoded.
        max_bytes: Limit on `data`.

    Returns:
        `[h, w, 3]`, turned as its EXIF orientation says.

    Raises:
        ImageTooLargeError: It is over a limit.
        ImageError: It is no image of these formats, or it is damaged.
    """
    if len(data) > max_bytes:
        raise ImageTooLargeError(f"the image has {len(data):,} bytes, the limit is {max_bytes:,}; send a smaller file")
    try:
        image = _open(data)
        width, height = image.size
        if width * height > max_pixels:
            size = f"{width} x {height} = {width * height:,}"
            raise ImageTooLargeError(f"the image has {size} pixels, the limit is {max_pixels:,}; scale it down first")
        if preprocessing is not None and preprocessing.least_draft_px is not None:
            # Only JPEG heeds it: the decoder leaves out what a smaller picture does not need.
            image.draft(None, (preprocessing.least_draft_px, preprocessing.least_draft_px))
        image.load()
        upright = _turn_upright(image)
        background = (255, 255, 255) if preprocessing is None else preprocessing.background
        return np.array(_flatten(upright, background), dtype=np.uint8)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageTooLargeError(
            f"the image is over the limit of {max_pixels:,} pixels; scale it down first"
        ) from error
    except Exception as error:
        # Pillow raises whatever a damaged file leads it into: OSError, SyntaxError, IndexError, struct.error.
        raise ImageError(f"the image is damaged and cannot be decoded ({error})") from error


def resize_image(rgb: NDArray[np.uint8], preprocessing: ImagePreprocessing) -> NDArray[np.uint8]:
    """Scales an image to the encoder's square, antialiased bicubic.

    Args:
        rgb: `[h, w, 3]`.
        preprocessing: Size and manner.

    Returns:
        `[size_px, size_px, 3]`.

    Raises:
        ValueError: `rgb` has another shape.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"an image must have the shape [h, w, 3], not {list(rgb.shape)}")
    size = (preprocessing.size_px, preprocessing.size_px)
    box = _middle_box(rgb.shape[1], rgb.shape[0], preprocessing)
    scaled = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BICUBIC, box=box)
    return np.array(scaled, dtype=np.uint8)


def normalise_image(rgb: NDArray[np.uint8], preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
    """Turns pixels into what the graph reads: scaled to [0, 1], less the mean, over the deviation, channels first.

    Args:
        rgb: `[..., h, w, 3]`; one image or a batch.
        preprocessing: Mean and deviation.

    Returns:
        `[..., 3, h, w]`, contiguous.
    """
    mean = np.asarray(preprocessing.mean, dtype=np.float32)
    std = np.asarray(preprocessing.std, dtype=np.float32)
    scaled = rgb.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis((scaled - mean) / std, -1, -3))


def _open(data: bytes) -> ImageFile.ImageFile:
    """Reads the header by the plugin itself: `Image.open` would judge the size by a process-wide limit, and warn."""
    stream = BytesIO(data)
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(stream)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile(stream)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(stream)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile(stream)
    if data.startswith(b"BM"):
        return BmpImageFile(stream)
    raise ImageError(f"the {len(data):,} bytes are no JPEG, PNG, WebP, GIF or BMP image")


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the picture unreadable; viewers ignore it too
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_16_bits(image, background)
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def _from_16_bits(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Keeps the upper byte; Pillow's own conversion would clip everything above 255 to white."""
    grey = np.asarray(image).astype(np.int64)
    rgb = np.repeat((grey >> 8).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        rgb[grey == transparent] = background
    return Image.fromarray(rgb)


def _middle_box(width: int, height: int, preprocessing: ImagePreprocessing) -> tuple[float, float, float, float]:
    """Returns what part of the image becomes the square: left, top, right, bottom.

    Cutting first gives the picture that scaling first gives, without ever holding a 1 x 100,000 image scaled up.
    """
    if preprocessing.resize is Resize.SQUASH:
        return (0, 0, width, height)
    shortest = preprocessing.shortest_edge_px or preprocessing.size_px
    side = min(width, height) * preprocessing.size_px / shortest
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)
