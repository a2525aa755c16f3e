"""From what the user names (a packaged set, a file, a folder) to a pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, Unpack

from training.corpora.catalogue import CATALOGUE, fetch
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.image_packing import PackOptions, PackSettings
from training.corpora.per_class import take_per_class
from training.corpora.progress import Advance, progress_bar
from training.corpora.quarantine import QuarantineReport
from training.corpora.readers.cifar import is_cifar_folder, read_cifar
from training.corpora.readers.fashion_mnist import is_idx_folder, read_fashion_mnist
from training.corpora.readers.image_folder import has_images, read_image_folder
from training.corpora.readers.packaged_images import IMAGE_READERS
from training.corpora.readers.packaged_texts import TEXT_READERS
from training.corpora.readers.text_files import CorpusError, JsonKeys, has_texts, read_texts
from training.corpora.registry.sources import SetKind
from training.corpora.splits import SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack
from training.publish import require_free

__all__ = ["SourceKind", "pack_image_source", "pack_text_source", "source_kind"]

_Item = TypeVar("_Item")


class SourceKind(StrEnum):
    """What a source holds, or should be read as."""

    AUTO = "auto"
    TEXT = "text"
    IMAGE = "image"


def source_kind(source: str) -> SourceKind:
    """Finds out what a source holds.

    Args:
        source: A packaged set's name, or a path. A name of the table is never taken for a path (`./wiki` is one).

    Returns:
        Text or image.

    Raises:
        CorpusError: It is a model, holds neither or both, or does not exist.
    """
    if source in CATALOGUE:
        kind = CATALOGUE[source].kind
        if kind is SetKind.MODEL:
            raise CorpusError(f"{source} is a model, not data; `diptych data fetch {source}` gives its folder")
        return SourceKind(kind.value)
    path = Path(source)
    if not path.exists():
        raise CorpusError(f"{source} is neither a path nor a packaged set; the sets are: {', '.join(CATALOGUE)}")
    if path.is_file():
        return SourceKind.TEXT
    images = is_cifar_folder(path) or is_idx_folder(path) or has_images(path)
    if images and has_texts(path):
        raise CorpusError(f"{source} holds texts and images; say which by --kind text or --kind image")
    if not images and not has_texts(path):
        raise CorpusError(f"{source} holds neither texts (.txt, .jsonl) nor images (.png, .jpg, .webp, .gif, .bmp)")
    return SourceKind.IMAGE if images else SourceKind.TEXT


def pack_text_source(
    source: str,
    destination: Path,
    *,
    keys: JsonKeys | None = None,
    fractions: SplitFractions | None = None,
    seed: int = 0,
) -> TextPack:
    """Packs a packaged set, a file or a folder of texts.

    Args:
        source: As the user names it.
        destination: The folder to make.
        keys: What the fields of JSON lines are called.
        fractions: How much is held out.
        seed: Of the division.

    Returns:
        The pack.
    """
    require_free(destination)
    packaged = source in TEXT_READERS
    documents = TEXT_READERS[source](fetch(source)) if packaged else read_texts(Path(source), keys)
    with progress_bar(f"packing {source}", None) as advance:
        return write_text_pack(
            _counted(documents, advance),
            destination,
            source=source,
            fractions=fractions or SplitFractions(),
            seed=seed,
        )


def pack_image_source(
    source: str,
    destination: Path,
    *,
    size_px: int,
    train_per_class: int | None = None,
    **settings: Unpack[PackSettings],
) -> tuple[ImagePack, QuarantineReport]:
    """Packs a packaged set or a folder of images.

    Args:
        source: As the user names it.
        destination: The folder to make.
        size_px: Side of the square that every image becomes.
        train_per_class: Training images of every class to keep; all where None.
        **settings: The other fields of `PackOptions`.

    Returns:
        The pack, and the images that were skipped.
    """
    require_free(destination)
    root = fetch(source) if source in IMAGE_READERS else Path(source)
    with progress_bar(f"packing {source}", None) as advance:
        items = _counted(_image_items(source, root), advance)
        told = source
        if train_per_class is not None:
            options = PackOptions(size_px=size_px, **settings)
            items = take_per_class(items, train_per_class, fractions=options.fractions, seed=options.seed)
            told = f"{source}, {train_per_class} training images a class"
        return write_image_pack(items, destination, size_px=size_px, source=told, root=root, **settings)


def _image_items(source: str, root: Path) -> Iterator[ImageItem]:
    if source in IMAGE_READERS:
        return IMAGE_READERS[source](root)
    if is_cifar_folder(root):
        return read_cifar(root)
    return read_fashion_mnist(root) if is_idx_folder(root) else read_image_folder(root)


def _counted(items: Iterable[_Item], advance: Advance) -> Iterator[_Item]:
    for item in items:
        yield item
        advance(1)
