"""`diptych search`: the nearest neighbours in a collection."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.printing import plain, print_json, print_table

if TYPE_CHECKING:
    from diptych.client.arguments import SearchArguments
    from diptych.client.types import Neighbours

__all__ = ["Search"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Finds the nearest neighbours of a text, an image, a vector or a stored record."""

    collection: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    text: str | None = None
    """A text to find neighbours of."""
    image: Path | None = None
    """An image's file."""
    record: str | None = None
    """Id of a stored record."""
    vector_file: Path | None = None
    """A .npy file with one vector."""
    space: str = ""
    """Embedding space of the vector; not needed where the collection has none."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Neighbours to find."""
    filter: str | None = None
    """Find only records for which this holds, as 'price >= 10 and tag in ("a", "b")'."""
    exact: bool = False
    """Compare every vector, whatever the index."""
    sources: bool = False
    """Show the texts that records were made from, where kept."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Annotated[Connection, tyro.conf.OmitArgPrefixes] = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints the neighbours, best first."""
        query = self._query()
        with self.connection.open() as client:
            found = client.search(self.collection, **query)
        if self.json:
            print_json(found)
        else:
            _print(found)
        return 0

    def _query(self) -> SearchArguments:
        query: SearchArguments = {}
        if self.text is not None:
            query["text"] = self.text
        if self.image is not None:
            query["image"] = self.image
        if self.record is not None:
            query["record"] = self.record
        if self.vector_file is not None:
            import numpy as np

            query["vector"] = np.squeeze(np.load(self.vector_file, allow_pickle=False))
        if len(query) != 1:
            raise ValueError("give exactly one of --text, --image, --record and --vector-file")
        if self.filter is not None:
            query["filter"] = self.filter
        return {
            **query,
            "space": self.space,
            "k": self.k,
            "exact": self.exact,
            "with_metadata": True,
            "with_sources": self.sources,
        }


def _print(found: Neighbours) -> None:
    columns = ["rank", "score", "id", "metadata"]
    metadata = found.metadata or [{}] * len(found)
    rows: list[tuple[object, ...]] = [
        (rank, score, identifier, plain(metadata[rank - 1]) or "")
        for rank, (identifier, score) in enumerate(found, start=1)
    ]
    if found.sources is not None:
        columns.append("source")
        rows = [(*row, source.decode("utf-8", "replace")) for row, source in zip(rows, found.sources, strict=True)]
    print_table(columns, rows)
