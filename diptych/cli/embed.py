"""`diptych embed`: vectors of texts or images, by a server or offline by a bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from diptych.cli.connection import Connection
from diptych.cli.inputs import read_records
from diptych.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Embed"]

SHOWN_COMPONENTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Embedded:
    ids: Sequence[str]
    vectors: NDArray[Any]
    errors: Mapping[int, str]
    encoder: str
    space: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Embed:
    """Embeds texts or images: by a server, or offline where --bundle is given.

    Files may be images, .jsonl (one object with text, or one string, a line) or texts, one a line; folders are walked;
    - is standard input, which is also read where neither files nor --text are given.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """What to embed."""
    text: tuple[str, ...] = ()
    """Texts to embed, themselves."""
    encoder: str = ""
    """Name of the encoder; may be left out where only one fits."""
    bundle: Path | None = None
    """A bundle to embed with here, without a server."""
    out: Path | None = None
    """A .npy file for the vectors, in the order of the inputs; failed ones are rows of zeros, and are named. With
    --bundle also a folder: a job in shards, of any size, which the same command goes on with where it was stopped, and
    which several processes can do together."""
    format: Literal["npy", "parquet"] = "npy"
    """Of a job's shards."""
    shard_inputs: int = 10_000
    """Inputs of a job's shard, which are held in memory at a time."""
    purpose: Literal["document", "query"] = "document"
    """What the vectors are for, where the encoder makes a difference."""
    dimension: int = 0
    """By a server: width to cut the vectors to, where the encoder allows it; 0 keeps all."""
    encoding: Literal["float32", "float16", "int8", "binary"] = "float32"
    """How the vectors are encoded; without a server float32, or float16 in a job."""
    json: bool = False
    """Print JSON instead of a table."""
    connection: Annotated[Connection, tyro.conf.OmitArgPrefixes] = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Embeds, then writes or prints; 1 where an input failed."""
        if self.bundle is not None and self.out is not None and self.out.suffix != ".npy":
            return self._run_job(self.bundle, self.out)
        embedded = self._offline() if self.bundle is not None else self._by_server()
        for index, message in sorted(embedded.errors.items()):
            print(f"{embedded.ids[index]}: {message}", file=sys.stderr)
        if self.out is not None:
            _save(self.out, embedded.vectors)
        self._print(embedded)
        return 1 if embedded.errors else 0

    def _by_server(self) -> _Embedded:
        files = self.files if self.files or self.text else (Path("-"),)
        records = list(read_records(files))
        ids = [*(f"text:{number}" for number in range(1, len(self.text) + 1)), *(record.id for record in records)]
        texts = [*self.text, *(record.content for record in records if isinstance(record.content, str))]
        images = [record.content for record in records if isinstance(record.content, Path)]
        if len(texts) != len(ids) and len(images) != len(ids):
            raise ValueError("the inputs must be texts only, or images only; embed them by two commands")
        with self.connection.open() as client:
            found = client.embed(
                texts or None,
                images=images or None,
                encoder=self.encoder,
                purpose=self.purpose,
                dimension=self.dimension,
                encoding=self.encoding,
                allow_partial=True,
            )
        errors = {index: str(error) for index, error in found.errors.items()}
        return _Embedded(ids=ids, vectors=found.vectors, errors=errors, encoder=found.encoder, space=found.space)

    def _run_job(self, bundle: Path, out: Path) -> int:
        """Embeds into a folder of shards."""
        from models.bundle.encoder import Purpose
        from models.bundle.offline import OfflineConfig
        from models.bundle.offline_job import JobConfig, ShardFormat, run_job

        if self.text or self.dimension or self.encoding not in ("float32", "float16"):
            raise ValueError("a job takes files, and gives whole float32 or float16 vectors; the rest needs a server")
        job = JobConfig(
            out=out,
            format=ShardFormat(self.format),
            shard_inputs=self.shard_inputs,
            half=self.encoding == "float16",
        )
        with _progress() as advance:
            done = run_job(bundle, self.files, job, OfflineConfig(purpose=Purpose(self.purpose)), progress=advance)
        for identifier, message in done.errors:
            print(f"{identifier}: {message}", file=sys.stderr)
        told = {"encoder": done.info.name, "space": done.info.space, "shards": done.shard_count}
        told |= {"own_shards": done.own_shard_count, "own_inputs": done.own_input_count, "failed": len(done.errors)}
        if self.json:
            print_json(told)
        else:
            print(
                f"{out}: {done.shard_count} shards by '{done.info.name}', {done.own_shard_count} of them with "
                f"{done.own_input_count} inputs done now, {len(done.errors)} inputs failed"
            )
        return 1 if done.errors else 0

    def _offline(self) -> _Embedded:
        from models.bundle.encoder import Purpose
        from models.bundle.offline import OfflineConfig, embed_offline

        if self.bundle is None or self.text or self.dimension or self.encoding != "float32":
            raise ValueError("--bundle takes files, and gives whole float32 vectors; the other flags need a server")
        found = embed_offline(self.bundle, self.files, OfflineConfig(purpose=Purpose(self.purpose)))
        return _Embedded(
            ids=found.ids, vectors=found.vectors, errors=found.errors, encoder=found.info.name, space=found.info.space
        )

    def _print(self, embedded: _Embedded) -> None:
        if self.json:
            vectors = {} if self.out else {"vectors": embedded.vectors}
            print_json({"encoder": embedded.encoder, "space": embedded.space, "ids": embedded.ids, **vectors})
        elif self.out is not None:
            shape = " x ".join(map(str, embedded.vectors.shape))
            print(f"wrote {self.out}: {shape} {embedded.vectors.dtype}, by '{embedded.encoder}'")
        else:
            rows = [
                (identifier, len(vector), " ".join(f"{value:.4g}" for value in vector[:SHOWN_COMPONENTS]) + " ...")
                for identifier, vector in zip(embedded.ids, embedded.vectors, strict=True)
            ]
            print_table(["input", "dimension", f"vector by '{embedded.encoder}'"], rows)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Counts inputs on a terminal; silent elsewhere."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} inputs"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("embed", total=None)
        yield lambda passed: progress.update(task, completed=passed)


def _save(path: Path, vectors: NDArray[Any]) -> None:
    """Writes the vectors under their name only once they are whole."""
    import numpy as np

    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
