"""`diptych encoders list|load|unload|alias|unalias`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from diptych.client.types import Encoder

__all__ = ["Alias", "List", "Load", "Unalias", "Unload"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Lists the encoders of a server, whatever their state."""

    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Prints them by name."""
        with self.connection.open() as client:
            found = client.encoders()
        _show(found, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Loads a bundle while the server serves, or swaps its encoder for what the bundle holds now.

    The old encoder answers until the new one has passed its checks, and stays where it does not.
    """

    name: Annotated[str, tyro.conf.Positional]
    """Name of the bundle's folder under the server's bundles folder; never a path."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Loads it and shows it."""
        with self.connection.open() as client:
            loaded = client.load_encoder(self.name)
        _show([loaded], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Unload:
    """Takes an encoder out of service once it has finished what it accepted."""

    name: Annotated[str, tyro.conf.Positional]
    """The encoder's name; NAME@VERSION where several versions serve."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Unloads it."""
        with self.connection.open() as client:
            client.unload_encoder(self.name)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """Lets a further name mean an encoder, from the next request on and after a restart too.

    Pointed at another version, it moves every client at once, and back. An alias of an encoder's own name holds that
    name to one version.
    """

    alias: Annotated[str, tyro.conf.Positional]
    """The further name: a-z, 0-9, '.', '_' and '-'."""
    encoder: Annotated[str, tyro.conf.Positional]
    """NAME@VERSION, or NAME for its newest version."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Points it there and shows the encoder."""
        with self.connection.open() as client:
            meant = client.set_encoder_alias(self.alias, self.encoder)
        _show([meant], as_json=self.json, single=True)
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Unalias:
    """Removes a further name."""

    alias: Annotated[str, tyro.conf.Positional]
    """The name."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Removes it."""
        with self.connection.open() as client:
            client.delete_encoder_alias(self.alias)
        return 0


def _show(encoders: Sequence[Encoder], *, as_json: bool, single: bool = False) -> None:
    if as_json:
        print_json(encoders[0] if single else encoders)
        return
    rows = [
        (
            one.name,
            one.version,
            one.state,
            ", ".join(one.aliases),
            one.modality,
            one.dimension or "",
            one.fingerprint[:12],
            one.state_message,
        )
        for one in encoders
    ]
    print_table(("name", "version", "state", "answers to", "reads", "dimension", "fingerprint", "why"), rows)
