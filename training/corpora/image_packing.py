"""Making an image pack: decode, resize and write one image after the other, whatever some of them are like."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from models.bundle.pixels import (
    MAX_IMAGE_BYTES,
    MAX_IMAGE_PIXELS,
    ImageError,
    ImagePreprocessing,
    ImageTooLargeError,
    Resize,
    decode_image,
    resize_image,
)
from training.corpora.blobs import BlobWriter
from training.corpora.image_items import ImageItem, split_of
from training.corpora.lines import LineWriter
from training.corpora.pixel_shards import ShardWriter, Storage, open_writer
from training.corpora.quarantine import Defect, QuarantinedImage, QuarantineReport
from training.corpora.splits import Split, SplitFractions
from training.publish import publish_json

__all__ = ["PackOptions", "PackSettings", "pack_images"]

_PLAIN_UP_TO_PX = 64
_ABSENT = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """How images are packed."""

    size_px: int
    """Side of the square that every image becomes, at least 1."""
    resize: Resize = Resize.SQUASH
    """How an oblong becomes a square."""
    background: tuple[int, int, int] = (255, 255, 255)
    """What shows through transparent parts, R G B in [0, 255]."""
    jpeg_draft: bool = False
    """Whether a large JPEG is decoded smaller, which is faster; encoders trained on the pack then do so too."""
    storage: Storage | None = None
    """How the pixels lie on disk; plain up to 64 px and PNG above where None."""
    max_pixels: int = MAX_IMAGE_PIXELS
    """Images with more are skipped, before they are decoded."""
    max_bytes: int = MAX_IMAGE_BYTES
    """Files with more are skipped, before they are read."""
    fractions: SplitFractions = field(default_factory=SplitFractions)
    """How much is held out."""
    seed: int = 0
    """Of the division, which is a hash of each item's group, or of its id where it has none."""

    @property
    def stored_as(self) -> Storage:
        """How the pixels lie on disk."""
        if self.storage is not None:
            return self.storage
        return Storage.PLAIN if self.size_px <= _PLAIN_UP_TO_PX else Storage.PNG

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """The size and manner as the pixel functions take them."""
        return ImagePreprocessing(
            size_px=self.size_px, resize=self.resize, background=self.background, jpeg_draft=self.jpeg_draft
        )


class PackSettings(TypedDict, total=False):
    """The optional fields of `PackOptions`, as keyword arguments."""

    resize: Resize
    background: tuple[int, int, int]
    jpeg_draft: bool
    storage: Storage | None
    max_pixels: int
    max_bytes: int
    fractions: SplitFractions
    seed: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """An image that can be packed."""

    item: ImageItem
    pixels: NDArray[np.uint8]
    sha256: str


def pack_images(
    items: Iterable[ImageItem], folder: Path, options: PackOptions, *, root: Path | None
) -> tuple[dict[str, Any], QuarantineReport]:
    """Writes all files of a pack but its manifest.

    Args:
        items: Read once; only as many as there are threads are in memory at a time.
        folder: Receives the files.
        options: How.
        root: Folder that the items' paths are noted relative to.

    Returns:
        What the manifest says of them, and the images that were skipped.

    Raises:
        ValueError: Two items have one id, or not one image is good.
    """
    shards = open_writer(folder, options.stored_as, options.size_px)
    with closing(_Columns(folder, options, root)) as columns, closing(shards):
        skipped = _write_all(items, options, shards, columns)
        report = QuarantineReport(len(columns) + len(skipped), skipped)
        if not len(columns):
            first = "; ".join(f"{image.id}: {image.reason}" for image in skipped[:3])
            raise ValueError(f"none of the {report.total:,} images can be packed: {first or 'there are none'}")
        shards.finish()
        publish_json(folder / "quarantine.json", report.to_json())
        return columns.finish() | {"quarantined": len(skipped)}, report


def _write_all(
    items: Iterable[ImageItem], options: PackOptions, shards: ShardWriter, columns: _Columns
) -> list[QuarantinedImage]:
    skipped: list[QuarantinedImage] = []
    seen: set[str] = set()
    for outcome in _in_order(lambda item: _prepare(item, options), items):
        identity = outcome.item.id if isinstance(outcome, _Ready) else outcome.id
        if identity in seen:
            raise ValueError(f"two images have the id '{identity}'; ids must be unique")
        seen.add(identity)
        if isinstance(outcome, _Ready):
            shards.append(outcome.pixels)
            columns.append(outcome.item, outcome.sha256)
        else:
            skipped.append(outcome)
    return skipped


def _prepare(item: ImageItem, options: PackOptions) -> _Ready | QuarantinedImage:
    try:
        content = _read(item, options.max_bytes)
        if not content:
            return QuarantinedImage(item.id, Defect.EMPTY, "the file is empty")
        rgb = decode_image(content, options.preprocessing, max_pixels=options.max_pixels, max_bytes=options.max_bytes)
    except ImageTooLargeError as error:
        return QuarantinedImage(item.id, Defect.TOO_LARGE, str(error))
    except ImageError as error:
        return QuarantinedImage(item.id, Defect.DAMAGED, str(error))
    except OSError as error:
        return QuarantinedImage(item.id, Defect.UNREADABLE, error.strerror or str(error))
    return _Ready(item, resize_image(rgb, options.preprocessing), hashlib.sha256(content).hexdigest())


def _read(item: ImageItem, max_bytes: int) -> bytes:
    if isinstance(item.content, bytes):
        return item.content
    size = item.content.stat().st_size
    if size > max_bytes:
        raise ImageTooLargeError(f"the image has {size:,} bytes, the limit is {max_bytes:,}; send a smaller file")
    return item.content.read_bytes()


def _in_order(
    prepare: Callable[[ImageItem], _Ready | QuarantinedImage], items: Iterable[ImageItem]
) -> Iterator[_Ready | QuarantinedImage]:
    """Prepares items in threads and gives them in their order; reads ahead only as far as the threads can work."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="pack") as pool:
        waiting: deque[Future[_Ready | QuarantinedImage]] = deque()
        for item in items:
            waiting.append(pool.submit(prepare, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Columns:
    """What is known of each image besides its pixels."""

    def __init__(self, folder: Path, options: PackOptions, root: Path | None) -> None:
        self._folder = folder
        self._options = options
        self._root = root
        self._lines = LineWriter(folder / "index.jsonl")
        self._originals = BlobWriter(folder, "originals")
        self._splits: list[Split] = []
        self._labels: list[str | None] = []
        self._groups: list[str | None] = []

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, item: ImageItem, sha256: str) -> None:
        """Notes one image."""
        line: dict[str, object] = {"id": item.id, "sha256": sha256, "attributes": dict(item.attributes)}
        if isinstance(item.content, bytes):
            line["blob"] = self._originals.append(item.content)
        else:
            line["path"] = self._relative(item.content)
        self._lines.append(line)
        self._splits.append(split_of(item, self._options.fractions, self._options.seed))
        self._labels.append(item.label)
        self._groups.append(item.group)

    def close(self) -> None:
        """Closes the files, finished or not."""
        self._lines.close()
        self._originals.close()

    def finish(self) -> dict[str, Any]:
        """Writes the columns and returns what the manifest says of them."""
        self._lines.finish()
        self._originals.close()
        codes = {split: code for code, split in enumerate(Split)}
        np.save(self._folder / "splits.npy", np.array([codes[split] for split in self._splits], dtype=np.uint8))
        labels = self._save_codes("labels.npy", self._labels)
        groups = self._save_codes("groups.npy", self._groups)
        publish_json(self._folder / "groups.json", {"groups": groups})
        counts = Counter(self._splits)
        return {
            "images": len(self._lines),
            "labels": labels,
            "groups": len(groups),
            "splits": {split.value: counts[split] for split in Split},
        }

    def _save_codes(self, name: str, values: list[str | None]) -> list[str]:
        """Writes the place of each value among the sorted ones, -1 where it has none."""
        names = sorted({value for value in values if value is not None})
        places = {value: place for place, value in enumerate(names)}
        codes = [_ABSENT if value is None else places[value] for value in values]
        np.save(self._folder / name, np.array(codes, dtype=np.int64))
        return names

    def _relative(self, path: Path) -> str:
        if self._root is not None and path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        return path.absolute().as_posix()
