"""Encoders without a graph, for tests of everything around one: what they give can be computed by hand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.load import BundleError
from models.bundle.pixels import ImageError
from serving.encoders.config import RuntimeConfig

DIMENSION = 8
MAX_TOKENS = 6


def vector_of(item: str | bytes, *, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """The unit vector that a fake encoder gives for an item: its own, and the same on every machine."""
    content = item.encode() if isinstance(item, str) else item
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dimension)
    unit: NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


class FakeEncoder:
    """Reads texts word by word, or images that begin with `IMG`; may be held to see what goes on meanwhile."""

    def __init__(
        self,
        name: str,
        modality: Modality = Modality.TEXT,
        *,
        version: str = "1",
        space: str = "",
        dimension: int = DIMENSION,
    ) -> None:
        self.info = EncoderInfo(
            name=name,
            version=version,
            modality=modality,
            dimension=dimension,
            metric="cosine",
            space=space or f"space-of-{name}",
            fingerprint=f"fingerprint-of-{name}",
            precision="fp32",
            max_tokens=MAX_TOKENS if modality is Modality.TEXT else 0,
            image_size_px=32 if modality is Modality.IMAGE else 0,
            truncatable_dimensions=(4,),
        )
        self.open = threading.Event()
        self.open.set()
        self.running = threading.Event()
        """Set while a batch is being run."""

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        if isinstance(item, bytes):
            if not item.startswith(b"IMG"):
                raise ImageError("these bytes are no image")
            return Prepared(vector_of(item, dimension=self.info.dimension), 1024)
        words = item.split()
        if not words:
            raise ValueError("the text is empty: it gives no token")
        if len(words) > MAX_TOKENS and not truncate:
            raise ValueError(f"the text has {len(words)} tokens, more than {MAX_TOKENS}")
        kept = " ".join(words[:MAX_TOKENS])
        asked = f"query: {kept}" if purpose is Purpose.QUERY and "prompted" in self.info.name else kept
        vector = vector_of(asked, dimension=self.info.dimension)
        return Prepared(vector, min(len(words), MAX_TOKENS), truncated=len(words) > MAX_TOKENS)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        self.running.set()
        assert self.open.wait(30), "the test never let the encoder go on"
        self.running.clear()
        return np.stack([prepared.array for prepared in batch]).astype(np.float32)


def write_bundle(bundles_dir: Path, name: str) -> None:
    """Makes a folder that looks like a bundle from afar; what it holds comes from the fake loader."""
    folder = bundles_dir / name
    folder.mkdir(parents=True)
    (folder / "diptych.json").write_text("{}")


class FakeLoader:
    """Stands in for reading bundles: gives the encoder made for each folder's name."""

    def __init__(self, *encoders: FakeEncoder, refuse: Sequence[str] = ()) -> None:
        self._refuse = refuse
        self.encoders = {encoder.info.name: encoder for encoder in encoders}
        self.open = threading.Event()
        self.open.set()

    def __call__(self, bundle_dir: Path, config: RuntimeConfig) -> Sequence[Encoder]:
        assert self.open.wait(30), "the test never let the loading go on"
        if bundle_dir.name in self._refuse:
            raise BundleError("a byte was flipped")
        return [self.encoders[bundle_dir.name]]
