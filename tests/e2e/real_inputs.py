"""Real texts and images of mixed length and size, out of the packaged sets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from training.corpora.catalogue import fetch
from training.corpora.readers.emoji import read_emoji
from training.corpora.readers.packaged_texts import read_wiki

__all__ = ["real_images", "real_texts"]


def real_texts(count: int) -> list[str]:
    """Returns single sentences, pairs and whole leads of Wikipedia articles, from a word to beyond 256 tokens."""
    documents = list(islice(read_wiki(fetch("wiki")), 3_000))
    rng = np.random.default_rng(0)
    texts: list[str] = []
    while len(texts) < count - 20:
        document = documents[int(rng.integers(len(documents)))]
        keep = int(rng.integers(1, len(document.sentences) + 1))
        texts.append(" ".join(document.sentences[:keep]))
    whole = [" ".join(document.sentences) for document in documents]
    titles = [document.attributes["title"] for document in documents[:10]]
    return [*texts, *titles, *(" ".join(whole[start : start + 4]) for start in range(10))]


def real_images(count: int) -> list[bytes]:
    """Returns drawings of three vendors: PNG of 64 px and WebP of 256 px, transparent."""
    items = list(islice(read_emoji(fetch("emoji")), count))
    return [item.content.read_bytes() if isinstance(item.content, Path) else item.content for item in items]
