"""The inputs every bundle is sealed with: of mixed length and size, and awkward on purpose."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.bundle.tokens import Tokenizer

__all__ = ["make_golden_images", "make_golden_texts"]

_PROSE: Final = (
    "The lighthouse keeper trimmed the lamp at dusk and wrote the hour in his book. Toward midnight the fog came in "
    "from the north-west, so thick that he could no longer see the rocks below the gallery. He sounded the horn every "
    "two minutes until morning. Only then did he learn that a schooner had anchored within hail of the reef, her crew "
    "listening to each blast and counting the seconds between them. "
)
_TEXTS: Final = (
    "A cat sleeps on the warm roof.",
    "Yes",
    _PROSE,
    "How do I restore a collection from yesterday's snapshot?",
    "The 1969 landing was watched by about 600,000,000 people; it cost $25.4 billion (1973 dollars).",
    "Zürich, São Paulo, Łódź and 東京 are cities; Αθήνα and Київ are, too.",
    "I can't believe it's already Friday 🎉🙂 — see you at 5:30 p.m.?!",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "PRICES UP 3.5% ON MONDAY, DOWN 0.2% ON TUESDAY",
    "  leading, trailing   and   inner\tspace  ",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. It takes place in the chloroplasts.",
    "https://example.org/a/b?c=d&e=f#g",
)


def make_golden_texts(tokenizer: Tokenizer, *, max_tokens: int) -> tuple[str, ...]:
    """Returns texts from one word to beyond the encoder's limit, in mixed order.

    Args:
        tokenizer: Decides how long a text is.
        max_tokens: The encoder's limit; the longest text exceeds it, and is therefore cut.

    Returns:
        The texts; those that this tokenizer makes nothing of are left out.
    """
    longest = _PROSE
    while not tokenizer.encode(longest, max_tokens=max_tokens).truncated:
        longest += longest
    usable = [text for text in _TEXTS if _gives_tokens(tokenizer, text, max_tokens)]
    return (*usable[:6], longest, *usable[6:])


def make_golden_images() -> tuple[bytes, ...]:
    """Returns PNG images of mixed size, shape and mode: colour, grey, palette, transparent, tiny, oblong.

    Returns:
        The encoded images, equal from run to run.
    """
    rng = np.random.default_rng(20240229)
    images = (
        _scene(rng, 96, 64),
        _scene(rng, 32, 32),
        _with_transparency(_scene(rng, 72, 72)),
        _scene(rng, 128, 48).convert("L"),
        _scene(rng, 50, 140),
        _scene(rng, 64, 64).quantize(16),
        Image.new("RGB", (5, 3), (200, 30, 90)),
        _scene(rng, 200, 160),
    )
    return tuple(_to_png(image) for image in images)


def _gives_tokens(tokenizer: Tokenizer, text: str, max_tokens: int) -> bool:
    try:
        return len(tokenizer.encode(text, max_tokens=max_tokens).ids) > 0
    except ValueError:
        return False


def _scene(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draws a sky of smooth colour with grain, and some solid shapes before it."""
    image = Image.fromarray(_grainy_gradient(rng, width, height))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        left, top = rng.uniform(0, 0.8, 2) * (width, height)
        right, bottom = (left, top) + rng.uniform(0.1, 0.4, 2) * (width, height)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw((float(left), float(top), float(right), float(bottom)), fill=colour)
    return image


def _grainy_gradient(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    corners = rng.uniform(40, 215, (2, 2, 3))
    across = np.linspace(0, 1, width)[None, :, None]
    down = np.linspace(0, 1, height)[:, None, None]
    top = corners[0, 0] * (1 - across) + corners[0, 1] * across
    bottom = corners[1, 0] * (1 - across) + corners[1, 1] * across
    grain = rng.normal(0, 8, (height, width, 3))
    coloured: NDArray[np.float64] = top * (1 - down) + bottom * down + grain
    return coloured.clip(0, 255).astype(np.uint8)


def _with_transparency(image: Image.Image) -> Image.Image:
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse((8, 8, image.width - 8, image.height - 8), fill=200)
    image.putalpha(mask)
    return image


def _to_png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
