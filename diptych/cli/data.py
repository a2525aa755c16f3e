"""`diptych data list|fetch|pack|check`: real data by package, and the user's own, made ready for training."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from training.corpora.duplicates import DuplicateReport

__all__ = ["Check", "Fetch", "List", "Pack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists the data sets and models that can be fetched by package, and which of them are here."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Prints the list."""
        from training.corpora.catalogue import CATALOGUE
        from training.corpora.registry.cache import cached_folder, default_cache

        cache = default_cache()
        rows = [
            {
                "name": packaged.name,
                "kind": packaged.kind.value,
                "download_bytes": packaged.size_bytes,
                "licence": packaged.licence,
                "summary": packaged.summary,
                "packages": [f"{source.registry.value}:{source.requirement}" for source in packaged.sources],
                "folder": None if (folder := cached_folder(packaged, cache)) is None else str(folder),
            }
            for packaged in CATALOGUE.values()
        ]
        if self.json:
            print(json.dumps(rows, indent=1))
        else:
            _print_table(rows)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """Fetches packaged sets into the cache ($DIPTYCH_CACHE or ~/.cache/diptych), verified, and prints their folders.

    An interrupted download is continued; what is there already is not fetched again.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Which; `diptych data list` shows them."""

    def run(self) -> int:
        """Fetches one after the other."""
        from training.corpora.catalogue import fetch, find_set

        if not self.names:
            raise ValueError("name at least one set; `diptych data list` shows them")
        # A wrong name is told before the first download.
        for packaged in [find_set(name) for name in self.names]:
            folder = fetch(packaged.name)
            print(f"{packaged.name}: {packaged.licence}", file=sys.stderr)
            print(folder)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """Packs texts or images into a folder to train on: split, resized and divided once.

    Images that cannot be read are skipped, counted, and listed in the pack's quarantine.json.
    """

    source: Annotated[str, tyro.conf.Positional]
    """A set of `diptych data list`, a .txt or .jsonl file, a folder of those, or a folder of images."""
    destination: Annotated[Path, tyro.conf.Positional]
    """The folder to make."""
    kind: Literal["auto", "text", "image"] = "auto"
    """What the source is read as."""
    validation: float = 0.05
    """Share held out for choices: of documents, or of images' groups."""
    test: float = 0.1
    """Share held out for published figures."""
    seed: int = 0
    """Of the division into parts."""
    size_px: int = 32
    """Images: side of the square that each becomes."""
    resize: Literal["squash", "crop"] = "squash"
    """Images: whether an oblong is squashed or its middle cut out."""
    train_per_class: int | None = None
    """Images: keep at most this many training images of every class, and all that is held out."""
    jpeg_draft: bool = False
    """Images: decode large JPEGs at a half to an eighth of their size. Faster, but other pixels: evaluation and the
    served encoder then do the same."""
    storage: Literal["auto", "plain", "png", "jpeg"] = "auto"
    """Images: how pixels lie on disk; auto: plain up to 64 px, lossless PNG above."""
    id_key: str = "id"
    """JSON lines: key of the document's id."""
    text_key: str = "text"
    """JSON lines: key of running prose."""
    sentences_key: str = "sentences"
    """JSON lines: key of a list of sentences, taken before the prose."""
    title_key: str = "title"
    """JSON lines: key of the title."""

    def run(self) -> int:
        """Makes the pack and prints what it holds."""
        from training.corpora.pack_source import SourceKind, source_kind

        kind = source_kind(self.source) if self.kind == "auto" else SourceKind(self.kind)
        described = self._pack_texts() if kind is SourceKind.TEXT else self._pack_images()
        print(json.dumps({"pack": str(self.destination), "kind": kind.value, **described}, indent=1))
        return 0

    def _pack_texts(self) -> dict[str, Any]:
        from training.corpora.pack_source import pack_text_source
        from training.corpora.readers.text_files import JsonKeys
        from training.corpora.splits import Split, SplitFractions

        pack = pack_text_source(
            self.source,
            self.destination,
            keys=JsonKeys(id=self.id_key, text=self.text_key, sentences=self.sentences_key, title=self.title_key),
            fractions=SplitFractions(validation=self.validation, test=self.test),
            seed=self.seed,
        )
        parts = {split.value: len(pack.documents(split)) for split in Split}
        counts = {"documents": pack.document_count, "sentences": pack.sentence_count}
        return {**counts, "splits": parts, "fingerprint": pack.fingerprint}

    def _pack_images(self) -> dict[str, Any]:
        from models.bundle.preprocessing import Resize
        from training.corpora.pack_source import pack_image_source
        from training.corpora.pixel_shards import Storage
        from training.corpora.splits import Split, SplitFractions

        pack, report = pack_image_source(
            self.source,
            self.destination,
            size_px=self.size_px,
            train_per_class=self.train_per_class,
            resize=Resize(self.resize),
            jpeg_draft=self.jpeg_draft,
            storage=None if self.storage == "auto" else Storage(self.storage),
            fractions=SplitFractions(validation=self.validation, test=self.test),
            seed=self.seed,
        )
        listed = f"; listed in {self.destination / 'quarantine.json'}" if report.images else ""
        print(f"{report.summary()}{listed}", file=sys.stderr)
        parts = {split.value: len(pack.indices(split)) for split in Split}
        counts = {"images": len(pack), "quarantined": len(report.images), "labels": len(pack.label_names)}
        return {**counts, "splits": parts, "fingerprint": pack.fingerprint}


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Looks for copies in a pack, and for held-out items that training has seen: leakage flatters every figure.

    Images are compared by their coarse colours, every one with every other; sentences whatever their case and spacing.
    What is alike need not be the same: look at the pairs.
    """

    pack: Annotated[Path, tyro.conf.Positional]
    """An image or text pack."""
    threshold: float = 0.995
    """Images: likeness from which two are near copies, in (0, 1]."""
    strict: bool = False
    """Exit with 1 where the test split shares an item with training."""
    json: bool = False
    """Print JSON, with the closest pairs across the division."""

    def run(self) -> int:
        """Looks, and prints what was found."""
        from dataclasses import asdict

        from training.corpora.duplicates import find_image_duplicates, find_text_duplicates
        from training.corpora.image_pack import ImagePack
        from training.corpora.pack_manifest import read_kind
        from training.corpora.progress import progress_bar
        from training.corpora.text_pack import TextPack

        if read_kind(self.pack) == "image":
            images = ImagePack.open(self.pack)
            with progress_bar("compare images", len(images)) as advance:
                report = find_image_duplicates(images, threshold=self.threshold, advance=advance)
        else:
            report = find_text_duplicates(TextPack.open(self.pack))
        if self.json:
            print(json.dumps(asdict(report), indent=1))
        else:
            _print_report(report)
        return 1 if self.strict and report.leaked["test"] else 0


def _print_report(report: DuplicateReport) -> None:
    print(f"{report.items:,} items; {report.exact:,} are exact copies of another, {report.near:,} have a near copy")
    for split, count in report.leaked.items():
        print(f"{split}: {count:,} items have a copy in training")
    for held_out, training, likeness in report.pairs[:10]:
        print(f"  {held_out}  is like  {training}  ({likeness:.4f})")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "kind", "download", "here", "licence", "what"):
        table.add_column(column, justify="right" if column == "download" else "left", no_wrap=column == "name")
    for row in rows:
        here = "yes" if row["folder"] else "no"
        size = f"{row['download_bytes'] / 1e6:.1f} MB"
        table.add_row(row["name"], row["kind"], size, here, row["licence"], row["summary"])
    # Piped output is for programs and for windows of other widths: no line is broken there.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
