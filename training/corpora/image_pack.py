"""An image pack: every picture decoded and resized once, read from disk as it is needed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from training.corpora.blobs import BlobReader
from training.corpora.image_items import ImageItem
from training.corpora.image_packing import PackOptions, PackSettings, pack_images
from training.corpora.lines import LineReader
from training.corpora.pack_manifest import PackError, read_manifest, write_manifest
from training.corpora.pixel_shards import Storage, open_reader
from training.corpora.quarantine import QuarantineReport
from training.corpora.splits import Split
from training.publish import publish_folder, staging_folder

__all__ = ["ImagePack", "write_image_pack"]

_SPLIT_CODES = tuple(Split)


class ImagePack:
    """An opened image pack; made by `write_image_pack`, opened by `ImagePack.open`.

    A copy in another process (by pickling) opens the same folder again.

    Args:
        path: The folder.
        verify: Whether all bytes are hashed.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        manifest = read_manifest(path, "image", verify=verify)
        self.path = path
        """The folder."""
        self.manifest: Mapping[str, Any] = manifest
        """What `pack.json` says."""
        self.fingerprint: str = manifest["fingerprint"]
        """Equal for equal pixels, labels and division."""
        self.size_px: int = manifest["size_px"]
        """Side of every image."""
        self.label_names: tuple[str, ...] = tuple(manifest["labels"])
        """Classes, sorted; `labels` are places in it."""
        self.group_names: tuple[str, ...] = tuple(
            json.loads((path / "groups.json").read_text(encoding="utf-8"))["groups"]
        )
        """Groups, sorted; `groups` are places in it."""
        self.labels: NDArray[np.int64] | None = np.load(path / "labels.npy") if self.label_names else None
        """`[n]`; -1 where an image has none. None where no image has any."""
        self.groups: NDArray[np.int64] | None = np.load(path / "groups.npy") if self.group_names else None
        """`[n]`; -1 where an image has none. None where no image has any."""
        self._split_codes = np.load(path / "splits.npy")  # [n] uint8
        self._lines = LineReader(path / "index.jsonl")
        self._shards = open_reader(path, Storage(manifest["storage"]), self.size_px)

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> ImagePack:
        """Opens a pack, checked against its own hashes.

        Args:
            path: The folder.
            verify: Whether all bytes are hashed, about a second a gigabyte; sizes are always compared.

        Returns:
            The pack.
        """
        return cls(Path(path), verify=verify)

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapped files would be copied into the pickle.
        return (functools.partial(ImagePack, verify=False), (self.path,))

    def __len__(self) -> int:
        return len(self._split_codes)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads images.

        Args:
            indices: `[m]`, each in `[0, len)`, in any order, repeated as one likes.

        Returns:
            `[m, size_px, size_px, 3]`, RGB; a copy.

        Raises:
            IndexError: A number is outside of the pack.
        """
        numbers = np.asarray(indices, dtype=np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"image numbers must lie in [0, {len(self)}), not [{numbers.min()}, {numbers.max()}]")
        return self._shards.read(numbers)

    def indices(self, split: Split | None = None, **attributes: str) -> NDArray[np.int64]:
        """Returns the numbers of the images of a part that have all given attributes.

        Args:
            split: The part; all of them where None.
            **attributes: As `vendor="noto"`.

        Returns:
            `[m]`, rising.

        Raises:
            ValueError: No image at all has an attribute of such a name.
        """
        chosen = np.ones(len(self), dtype=np.bool_)
        if split is not None:
            chosen = self._split_codes == _SPLIT_CODES.index(split)
        for name, value in attributes.items():
            column = self._column(name)
            chosen = chosen & np.fromiter((found == value for found in column), dtype=np.bool_, count=len(self))
        return np.flatnonzero(chosen)

    @functools.cached_property
    def ids(self) -> Sequence[str]:
        """What each image is called; read from disk on first use."""
        return tuple(str(self._lines[number]["id"]) for number in range(len(self)))

    def attributes(self, index: int) -> Mapping[str, str]:
        """Returns what is known of an image.

        Args:
            index: Its number.

        Returns:
            Attributes by name.
        """
        found: Mapping[str, str] = self._lines[index]["attributes"]
        return found

    def original(self, index: int) -> bytes:
        """Reads the encoded image as it was before packing.

        Args:
            index: Its number.

        Returns:
            The bytes of its file.

        Raises:
            PackError: The file is gone, or is another one than was packed.
        """
        line = self._lines[index]
        if "blob" in line:
            number, start, length = line["blob"]
            return self._originals.read((number, start, length))
        path = Path(str(self.manifest["provenance"]["root"]), line["path"])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PackError(
                f"the original {path} cannot be read ({error.strerror}); bring it back or pack again"
            ) from error
        if hashlib.sha256(content).hexdigest() != line["sha256"]:
            raise PackError(f"the original {path} has changed since it was packed; pack the data again")
        return content

    @functools.cached_property
    def _originals(self) -> BlobReader:
        return BlobReader(self.path, "originals")

    @functools.cached_property
    def _rows(self) -> Sequence[Mapping[str, str]]:
        return [self.attributes(number) for number in range(len(self))]

    def _column(self, name: str) -> list[str | None]:
        column = [row.get(name) for row in self._rows]
        if all(value is None for value in column):
            known = sorted({key for row in self._rows for key in row})
            raise ValueError(
                f"no image of {self.path} has the attribute '{name}'; there are: {', '.join(known) or 'none'}"
            )
        return column


def write_image_pack(
    items: Iterable[ImageItem],
    destination: Path,
    *,
    size_px: int,
    source: str,
    root: Path | None = None,
    **settings: Unpack[PackSettings],
) -> tuple[ImagePack, QuarantineReport]:
    """Packs images into a folder that appears when it is complete; bad images are skipped, counted and listed.

    Args:
        items: Read once, a few at a time.
        destination: The folder to make.
        size_px: Side of the square that every image becomes.
        source: Where they come from, for the record.
        root: Folder that the originals' paths are noted relative to.
        **settings: The other fields of `PackOptions`: `fractions`, `seed`, `resize`, ...

    Returns:
        The pack, and the images that were skipped (also in its `quarantine.json`).
    """
    options = PackOptions(size_px=size_px, **settings)
    with staging_folder(destination) as staging:
        described, report = pack_images(items, staging, options, root=root)
        how = {
            "size_px": size_px,
            "resize": options.resize.value,
            "background": list(options.background),
            # Left out where it is off, so that a pack keeps the fingerprint it had before there was a choice.
            **({"jpeg_draft": True} if options.jpeg_draft else {}),
            "storage": options.stored_as.value,
            "fractions": asdict(options.fractions),
            "seed": options.seed,
        }
        # Where the data lay is no part of what it is.
        provenance = {"source": source, "root": "" if root is None else str(root.absolute())}
        write_manifest(staging, "image", provenance=provenance, described=how | described)
        publish_folder(staging, destination)
    return ImagePack.open(destination, verify=False), report
