"""A bundle's preparation and graph without anything of ours around them: the bound of what a server can do."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # ships no types
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.bundle.assemble import read_preprocessing
from models.bundle.pixels import decode_image, normalise_image, resize_image

__all__ = ["DirectImages", "DirectTexts"]

BATCH = 32
CORES = len(os.sched_getaffinity(0))


class DirectTexts:
    """Tokenizes, sorts by length, and calls ONNX Runtime with every core."""

    def __init__(self, bundle: Path, precision: str) -> None:
        self._session, entry = _open(bundle, precision)
        self._names = {each.name for each in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._tokenizer.enable_truncation(entry["limits"]["max_tokens"])
        self._tokenizer.no_padding()

    def items_per_s(self, texts: Sequence[str], window: int, seconds: float) -> float:
        """Returns the texts a second, sorted within windows of so many."""
        windows = [texts[start : start + window] for start in range(0, len(texts) - window + 1, window)]
        return _rate(self.embed, windows, seconds)

    def single_ms(self, texts: Sequence[str], seconds: float) -> float:
        """Returns the median time of one text."""
        took_s: list[float] = []
        end_s = time.perf_counter() + seconds
        while (begin_s := time.perf_counter()) < end_s:
            self.embed([texts[len(took_s) % len(texts)]])
            took_s.append(time.perf_counter() - begin_s)
        return statistics.median(took_s) * 1e3

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors in the order of the texts, `[n, d]`."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        vectors: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            padded = np.zeros((len(rows), len(ids[rows[-1]])), np.int64)
            mask = np.zeros_like(padded)
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])], mask[place, : len(ids[row])] = ids[row], 1
            feeds = {"input_ids": padded, "attention_mask": mask}
            feeds |= {"token_type_ids": np.zeros_like(padded)} if "token_type_ids" in self._names else {}
            vectors |= dict(zip(rows, self._session.run(["sentence_embedding"], feeds)[0], strict=True))
        return np.stack([vectors[row] for row in range(len(ids))])


class DirectImages:
    """Decodes and prepares in as many threads as there are cores, then calls ONNX Runtime with every core."""

    def __init__(self, bundle: Path, precision: str) -> None:
        self._session, _ = _open(bundle, precision)
        self._preprocessing = read_preprocessing(bundle)
        self._threads = ThreadPoolExecutor(CORES)

    def items_per_s(self, images: Sequence[bytes], window: int, seconds: float) -> float:
        """Returns the images a second, in batches of so many."""
        windows = [images[start : start + window] for start in range(0, len(images) - window + 1, window)]
        return _rate(self.embed, windows, seconds)

    def embed(self, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Returns the vectors, `[n, d]`."""
        prepared = list(self._threads.map(self._prepare, images))
        vectors: NDArray[np.float32] = self._session.run(["image_embedding"], {"pixel_values": np.stack(prepared)})[0]
        return vectors

    def _prepare(self, image: bytes) -> NDArray[np.float32]:
        rgb = decode_image(image, self._preprocessing)
        return normalise_image(resize_image(rgb, self._preprocessing), self._preprocessing)


def _open(bundle: Path, precision: str) -> tuple[Any, dict[str, Any]]:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = CORES
    entry: dict[str, Any] = json.loads((bundle / "diptych.json").read_text(encoding="utf-8"))["encoders"][0]
    graph = bundle / entry["graphs"][precision]["file"]
    return ort.InferenceSession(graph, settings, ["CPUExecutionProvider"]), entry


def _rate(embed: Callable[[Any], object], windows: Sequence[Sequence[Any]], seconds: float) -> float:
    embed(windows[0])
    count, place, start_s = 0, 0, time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        embed(windows[place % len(windows)])
        count, place = count + len(windows[place % len(windows)]), place + 1
    return count / (time.perf_counter() - start_s)
