"""The pixels of a pack: plain arrays while images are small, lossless PNG (or JPEG) files in shards above that."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundle.pixels import decode_image
from training.corpora.blobs import BlobReader, BlobWriter

__all__ = [
    "EncodedReader",
    "EncodedWriter",
    "PlainReader",
    "PlainWriter",
    "ShardReader",
    "ShardWriter",
    "Storage",
    "encode_pixels",
    "open_reader",
    "open_writer",
]

_SHARD_BYTES = 64 << 20
_PLACES = "encoded-places.npy"


class Storage(StrEnum):
    """How pixels lie on disk."""

    PLAIN = "plain"
    """uint8 arrays, memory-mapped: the fastest to read, `3 * size_px ** 2` bytes an image."""
    PNG = "png"
    """Encoded without loss."""
    JPEG = "jpeg"
    """Encoded at quality 95: a quarter of PNG for photographs, and no longer exact."""


class ShardWriter(Protocol):
    """Takes images one after the other."""

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Writes one image, `[size, size, 3]`."""
        ...

    def finish(self) -> None:
        """Completes the files."""
        ...

    def close(self) -> None:
        """Closes the files, finished or not."""
        ...


class ShardReader(Protocol):
    """Gives images by their numbers."""

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads images, `[m, size, size, 3]`."""
        ...


def open_writer(folder: Path, storage: Storage, size_px: int) -> ShardWriter:
    """Opens the writer of a way of storing.

    Args:
        folder: Receives the files.
        storage: The way.
        size_px: Side of the images.

    Returns:
        The writer.
    """
    return PlainWriter(folder, size_px) if storage is Storage.PLAIN else EncodedWriter(folder, storage)


def open_reader(folder: Path, storage: Storage, size_px: int) -> ShardReader:
    """Opens the reader of a way of storing.

    Args:
        folder: Holds the files.
        storage: The way.
        size_px: Side of the images.

    Returns:
        The reader.
    """
    return PlainReader(folder, size_px) if storage is Storage.PLAIN else EncodedReader(folder, size_px)


class PlainWriter:
    """Writes `.npy` shards of `[k, size, size, 3]`, each at most about 64 MiB; one of them is held in memory.

    Args:
        folder: Receives the files.
        size_px: Side of the images.
    """

    def __init__(self, folder: Path, size_px: int) -> None:
        self._folder = folder
        self._rows = np.empty((_rows_a_shard(size_px), size_px, size_px, 3), dtype=np.uint8)
        self._filled = 0
        self._shard = 0

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Writes one image.

        Args:
            pixels: `[size, size, 3]`.
        """
        self._rows[self._filled] = pixels
        self._filled += 1
        if self._filled == len(self._rows):
            self.finish()

    def finish(self) -> None:
        """Writes the rows that are held."""
        if self._filled:
            np.save(_shard_path(self._folder, self._shard), self._rows[: self._filled])
            self._shard += 1
            self._filled = 0

    def close(self) -> None:
        """Has nothing to close: each shard is written in one go."""


class PlainReader:
    """Reads memory-mapped `.npy` shards.

    Args:
        folder: Holds the files.
        size_px: Side of the images.
    """

    def __init__(self, folder: Path, size_px: int) -> None:
        self._folder = folder
        self._size_px = size_px
        self._shards: dict[int, NDArray[np.uint8]] = {}

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies images out of the mapped shards.

        Args:
            numbers: `[m]`.

        Returns:
            `[m, size, size, 3]`.
        """
        shards, rows = np.divmod(numbers, _rows_a_shard(self._size_px))
        pixels = np.empty((len(numbers), self._size_px, self._size_px, 3), dtype=np.uint8)
        for shard in np.unique(shards):
            here = shards == shard
            pixels[here] = self._shard(int(shard))[rows[here]]
        return pixels

    def _shard(self, number: int) -> NDArray[np.uint8]:
        if number not in self._shards:
            self._shards[number] = np.load(_shard_path(self._folder, number), mmap_mode="r")
        return self._shards[number]


class EncodedWriter:
    """Encodes each image and appends it to a shard.

    Args:
        folder: Receives the files.
        storage: PNG or JPEG.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage
        self._blobs = BlobWriter(folder, "encoded")
        self._places: list[tuple[int, int, int]] = []

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Encodes and writes one image.

        Args:
            pixels: `[size, size, 3]`.
        """
        self._places.append(self._blobs.append(encode_pixels(pixels, self._storage)))

    def finish(self) -> None:
        """Completes the shards and writes where each image lies."""
        self.close()
        np.save(self._folder / _PLACES, np.array(self._places, dtype=np.int64).reshape(-1, 3))

    def close(self) -> None:
        """Closes the current shard, finished or not."""
        self._blobs.close()


class EncodedReader:
    """Decodes images out of shards, several at a time.

    Args:
        folder: Holds the files.
        size_px: Side of the images.
    """

    def __init__(self, folder: Path, size_px: int) -> None:
        self._blobs = BlobReader(folder, "encoded")
        self._places = np.load(folder / _PLACES)  # [n, 3] int64
        self._size_px = size_px
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decodes images.

        Args:
            numbers: `[m]`.

        Returns:
            `[m, size, size, 3]`.
        """
        pixels = np.empty((len(numbers), self._size_px, self._size_px, 3), dtype=np.uint8)
        for place, decoded in enumerate(self._pool().map(self._decode, self._places[numbers])):
            pixels[place] = decoded
        return pixels

    def _pool(self) -> ThreadPoolExecutor:
        """Pillow decodes outside of the interpreter's lock; a forked worker needs threads of its own."""
        process = os.getpid()
        if self._threads is None or self._threads[0] != process:
            pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")
            self._threads = (process, pool)
        return self._threads[1]

    def _decode(self, place: NDArray[np.int64]) -> NDArray[np.uint8]:
        file, start, length = place.tolist()
        return decode_image(self._blobs.read((file, start, length)))


def encode_pixels(pixels: NDArray[np.uint8], storage: Storage = Storage.PNG) -> bytes:
    """Encodes one image.

    Args:
        pixels: `[h, w, 3]`, or `[h, w]` where it is grey.
        storage: PNG (fast, lossless) or JPEG (quality 95, full colour resolution).

    Returns:
        The encoded image.
    """
    stream = BytesIO()
    image = Image.fromarray(pixels)
    if storage is Storage.JPEG:
        image.save(stream, "JPEG", quality=95, subsampling=0)
    else:
        image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _rows_a_shard(size_px: int) -> int:
    return max(1, _SHARD_BYTES // (3 * size_px * size_px))


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"pixels-{number:05d}.npy"
