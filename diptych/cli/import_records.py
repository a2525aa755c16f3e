"""`diptych collections import`: records from Parquet into a collection."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diptych.cli.connection import Connection
from diptych.cli.job_progress import record_counter
from diptych.cli.parquet_form import Told, decode_metadata, require_pyarrow, told_in
from diptych.cli.printing import print_json

if TYPE_CHECKING:
    from diptych.client.sync import Client
    from diptych.client.types import Collection

__all__ = ["Import"]

BATCH = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """Writes records from Parquet files: of an export, of an embedding job, or any with the columns id and vector.

    The same command goes on with an import that was cut off: what was acknowledged is not sent again, and the batch
    that was on its way is written once. Where the collection is missing it is made as the files say.
    """

    name: Annotated[str, tyro.conf.Positional]
    """The collection's name."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, or folders of shards."""
    space: str = ""
    """Embedding space of the vectors; as the files say unless given."""
    from_sources: bool = False
    """Send sources, to be embedded by the collection's encoder, instead of vectors; rows without one are left out."""
    vectors_only: bool = False
    """Make a missing collection without the encoder that the files name."""
    json: bool = False
    """Print JSON instead of a line."""
    connection: Annotated[Connection, tyro.conf.OmitArgPrefixes] = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Sends batch after batch; each is durable once it is counted."""
        require_pyarrow()
        paths = list(_walk(self.files))
        if not paths:
            raise ValueError("there is no .parquet file to import")
        told = _told(paths)
        with self.connection.open() as client, record_counter(f"importing into '{self.name}'") as advance:
            collection = self._collection(client, told)
            space = self.space or _space_of(paths) or ("" if told is None else told.space)
            state = _State(self.connection.server, collection, paths, from_sources=self.from_sources)
            written = skipped = 0
            for number, rows in enumerate(_batches(paths, sources=self.from_sources)):
                good = [row for row in rows if row.content is not None]
                skipped += len(rows) - len(good)
                if good and number >= state.done_count:
                    _send(client, self.name, good, space, f"import-{state.run}-{number}")
                    state.note(number + 1)
                written += len(good)
                advance(len(rows))
            state.forget()
        if self.json:
            print_json({"collection": self.name, "records": written, "skipped": skipped, "files": len(paths)})
        else:
            print(f"imported {written} records into '{self.name}', {skipped} rows had nothing to write")
        return 0

    def _collection(self, client: Client, told: Told | None) -> Collection:
        from diptych.client.errors import NotFoundError

        try:
            return client.collection(self.name)
        except NotFoundError:
            if told is None:
                raise
        if told.encoder and not self.vectors_only:
            _check_encoder(client, told)
            return client.create_collection(
                self.name,
                encoder=told.encoder,
                metric=told.metric,
                index=told.index,
                display_name=told.display_name,
                retain_sources=told.retain_sources,
                fields=dict(told.fields),
            )
        return client.create_collection(
            self.name,
            dimension=told.dimension,
            space=told.space,
            metric=told.metric,
            index=told.index,
            display_name=told.display_name,
            fields=dict(told.fields),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    content: Any
    """A vector, a text or an image; None: there is nothing to write."""
    metadata: dict[str, Any]
    expire_time: datetime | None


class _State:
    """How far an import has come, beside the cache: a process that is killed leaves it to the next."""

    def __init__(self, server: str, collection: Collection, paths: Sequence[Path], *, from_sources: bool) -> None:
        described = [server, collection.name, collection.create_time.isoformat(), from_sources]
        for path in paths:
            status = path.stat()
            described += [str(path.absolute()), status.st_size, status.st_mtime_ns]
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        self._path = _cache() / "imports" / f"{digest[:32]}.json"
        self.run, self.done_count = secrets.token_hex(8), 0
        if self._path.exists():
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self.run, self.done_count = str(stored["run"]), int(stored["done"])
        else:
            self.note(0)

    def note(self, done_count: int) -> None:
        """Notes how many batches are acknowledged."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"run": self.run, "done": done_count}), encoding="utf-8")
        unfinished.replace(self._path)

    def forget(self) -> None:
        """Ends it: the next import of these files begins anew."""
        self._path.unlink(missing_ok=True)


def _cache() -> Path:
    named = os.environ.get("DIPTYCH_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "diptych"


def _walk(files: Sequence[Path]) -> Iterator[Path]:
    for file in files:
        if file.is_dir():
            yield from sorted(path for path in file.glob("*.parquet") if not path.name.startswith("."))
        elif file.is_file():
            yield file
        else:
            raise ValueError(f"there is no file '{file}'")


def _told(paths: Sequence[Path]) -> Told | None:
    import pyarrow.parquet as pq

    found = {told_in(pq.read_schema(path)) for path in paths}
    kinds = {(one.space, one.dimension) for one in found if one is not None}
    if len(kinds) > 1:
        raise ValueError(f"the files hold vectors of {len(kinds)} spaces; import them one by one")
    return next(iter(found), None)


def _space_of(paths: Sequence[Path]) -> str:
    import pyarrow.parquet as pq

    words = pq.read_schema(paths[0]).metadata or {}
    return bytes(words.get(b"diptych.space", b"")).decode("utf-8")


def _check_encoder(client: Client, told: Told) -> None:
    from diptych.client.errors import NotFoundError

    try:
        space = client.encoder(told.encoder).space
    except NotFoundError:
        space = ""
    if space != told.space:
        found = "has none of that name" if not space else f"has one of space {space[:16]}"
        raise ValueError(
            f"the records were made by encoder '{told.encoder}' of space {told.space[:16]}, the server {found}; "
            "load it, or make the collection without an encoder by --vectors-only"
        )


def _batches(paths: Sequence[Path], *, sources: bool) -> Iterator[list[_Row]]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            lacking = {"id", "source" if sources else "vector"} - names
            if lacking:
                raise ValueError(f"{path} lacks the columns {', '.join(sorted(lacking))}")
            wanted = {"id", "metadata", "expire_time", "error"} | ({"source", "source_type"} if sources else {"vector"})
            for batch in file.iter_batches(batch_size=BATCH, columns=sorted(wanted & names)):
                yield _rows(batch, path, sources=sources)


def _rows(batch: Any, path: Path, *, sources: bool) -> list[_Row]:
    columns = {name: batch.column(name) for name in batch.schema.names}
    ids = columns["id"].to_pylist()
    count = len(ids)
    if None in ids:
        raise ValueError(f"{path}: the column 'id' has rows without one")
    metadata = columns["metadata"].to_pylist() if "metadata" in columns else [None] * count
    ends = columns["expire_time"].to_pylist() if "expire_time" in columns else [None] * count
    errors = columns["error"].to_pylist() if "error" in columns else [None] * count
    if sources:
        kinds = columns["source_type"].to_pylist() if "source_type" in columns else ["text/plain"] * count
        contents = [_source(data, kind) for data, kind in zip(columns["source"].to_pylist(), kinds, strict=True)]
    else:
        contents = _vectors(columns["vector"], path)
    return [
        _Row(str(identifier), None if error else content, decode_metadata(text), end)
        for identifier, content, text, end, error in zip(ids, contents, metadata, ends, errors, strict=True)
    ]


def _vectors(column: Any, path: Path) -> list[Any]:
    import numpy as np

    lengths = {len(vector) if vector is not None else 0 for vector in column}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"{path}: the column 'vector' must hold vectors of one width, not {sorted(lengths)}")
    return list(np.asarray(column.flatten(), dtype=np.float32).reshape(len(column), -1))


def _source(data: bytes | str | None, kind: str | None) -> str | bytes | None:
    if isinstance(data, bytes) and (kind or "text/plain") == "text/plain":
        return data.decode("utf-8")
    return data


def _send(client: Client, name: str, rows: Sequence[_Row], space: str, request_id: str) -> None:
    import numpy as np

    texts = [row for row in rows if isinstance(row.content, str)]
    images = [row for row in rows if isinstance(row.content, bytes)]
    vectors = [row for row in rows if isinstance(row.content, np.ndarray)]
    for kind, some in (("texts", texts), ("images", images), ("vectors", vectors)):
        if some:
            contents = [row.content for row in some]
            content: dict[str, Any] = {kind: np.stack(contents) if kind == "vectors" else contents}
            client.upsert(
                name,
                [row.id for row in some],
                metadata=[row.metadata for row in some],
                expire_times=[row.expire_time for row in some],
                space=space if kind == "vectors" else "",
                request_id=f"{request_id}-{kind}",
                **content,
            )
