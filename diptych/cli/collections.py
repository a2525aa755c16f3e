"""`diptych collections create|update|list|get|delete`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from diptych.cli.connection import Connection
from diptych.cli.index_flags import IndexFlags
from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from diptych.client.types import Collection, IndexStatus

__all__ = ["Create", "Delete", "Get", "List", "Update"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]
Fields = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
Details = Annotated[IndexFlags, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Create:
    """Creates a collection, pinned to the space of its encoder, or of the vectors you bring."""

    name: Annotated[str, tyro.conf.Positional]
    """Lower-case letters, digits and hyphens, at most 63; begins with a letter."""
    encoder: str = ""
    """Encoder that embeds texts or images for it; gives it space, dimension and metric."""
    dimension: int = 0
    """Without an encoder: width of its vectors."""
    space: str = ""
    """Without an encoder: the embedding space of its vectors; empty where nobody knows."""
    metric: Literal["", "cosine", "inner-product", "l2"] = ""
    """How closeness is scored; the encoder's, or cosine."""
    index: Literal["auto", "exact", "hnsw", "ivf"] = "auto"
    """How neighbours are found; auto chooses by size, dimension and memory."""
    details: Details = dataclasses.field(default_factory=IndexFlags)
    """The index in detail."""
    display_name: str = ""
    """A name for people."""
    retain_sources: bool = False
    """Keep the text or image of each record."""
    field: Fields = ()
    """NAME:TYPE of a metadata field that filters may name; may be given several times. Types: string, integer, float,
    bool, timestamp, string_list, geo_point."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = dataclasses.field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Creates it and shows it."""
        with self.connection.open() as client:
            created = client.create_collection(
                self.name,
                encoder=self.encoder,
                dimension=self.dimension,
                space=self.space,
                metric=self.metric.replace("-", "_"),
                index=self.details.chosen() or self.index,
                display_name=self.display_name,
                retain_sources=self.retain_sources,
                fields=_fields(self.field),
            )
        _show([created], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Changes a collection's display name, its fields or its index.

    Returns once filters may name new fields; a new index is built while the old one answers.
    """

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    display_name: str | None = None
    """A new name for people."""
    field: Fields = ()
    """NAME:TYPE of a field to add, filled from the stored records; may be given several times."""
    drop_field: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Name of a field to drop, its values stay in the metadata; may be given several times."""
    index: Literal["", "auto", "exact", "hnsw", "ivf"] = ""
    """How neighbours are found; auto chooses by size, dimension and memory."""
    details: Details = dataclasses.field(default_factory=IndexFlags)
    """The index in detail."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = dataclasses.field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Changes it and shows it."""
        fields = None
        with self.connection.open() as client:
            if self.field or self.drop_field:
                declared = client.collection(self.name).fields
                unknown = [name for name in self.drop_field if name not in declared]
                if unknown:
                    raise ValueError(f"'{self.name}' declares no field {', '.join(map(repr, unknown))}")
                kept = {name: kind for name, kind in declared.items() if name not in self.drop_field}
                fields = {**kept, **_fields(self.field)}
            index = self.details.chosen() or self.index or None
            changed = client.update_collection(self.name, display_name=self.display_name, fields=fields, index=index)
        _show([changed], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists the collections of a server."""

    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = dataclasses.field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them by name."""
        with self.connection.open() as client:
            found = client.collections()
        _show(found, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Get:
    """Shows one collection."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = dataclasses.field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints it."""
        with self.connection.open() as client:
            found = client.collection(self.name)
        _show([found], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delete:
    """Deletes a collection with all its records; nothing brings them back."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""
    allow_missing: bool = False
    """A collection that is not there is no error."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Server = dataclasses.field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Deletes it."""
        with self.connection.open() as client:
            client.delete_collection(self.name, allow_missing=self.allow_missing)
        if self.json:
            print_json({"deleted": self.name})
        else:
            print(f"deleted collection '{self.name}'")
        return 0


def _fields(given: tuple[str, ...]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for one in given:
        name, colon, kind = one.rpartition(":")
        if not colon or not name:
            raise ValueError(f"--field {one!r} must be NAME:TYPE, as price:float")
        if name in fields:
            raise ValueError(f"--field names {name!r} twice")
        fields[name] = kind.replace("-", "_")
    return fields


def _show(found: list[Collection], *, as_json: bool, single: bool = False) -> None:
    if as_json:
        print_json(found[0] if single else found)
        return
    columns = ["name", "encoder", "dimension", "metric", "records", "index", "space", "fields"]
    rows = [
        (
            *(one.name, one.encoder, one.dimension, one.metric, one.record_count, one.index_status.active),
            one.space[:16],
            ", ".join(f"{name}:{kind}" for name, kind in one.fields.items()),
        )
        for one in found
    ]
    print_table(columns, rows)
    if single:
        print(_index_line(found[0].index_status))


def _index_line(status: IndexStatus) -> str:
    line = f"index {status.reason}"
    if status.bytes_per_vector:
        line += f"; {status.bytes_per_vector:.0f} bytes a vector, {status.tail_count:,} newer records beside it"
    if status.recall is not None:
        found = status.recall
        line += f"; recall@10 {found.recall:.3f} [{found.low:.3f}, {found.high:.3f}] of {found.query_count:,} queries"
    if status.build_progress is not None:
        line += f"; building, {status.build_progress:.0%}"
    return line
