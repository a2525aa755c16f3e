"""A small mixed load, what it must have left behind, and whether it has."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import CollectionSpec, Record, RecordWrite
from serving.errors import CollectionExists, CollectionNotFound, ServingError, Unavailable

__all__ = ["CONFIG", "Load", "Operation", "Oracle", "check_found", "operations", "read_state", "vector_of"]

DIMENSION = 8
# A base is built after a few writes, so that builds and swaps are among what is disturbed.
CONFIG = CollectionsConfig(
    auto_index_records=20,
    tail_min_records=10,
    tail_max_records=40,
    search_threads=1,
    build_threads=1,
    expiry_sweep_s=3_600,
)
ATTEMPTS = 60
"""More than any failure lasts."""

Contents = Mapping[str, tuple[int, int]]
"""Per record the seed of its vector, and a number in its metadata."""
State = Mapping[str, Contents]
"""Per collection its contents."""


@dataclass(frozen=True)
class Operation:
    """One call; `run` may be repeated after an error until it succeeds."""

    name: str
    place: str
    """The collection it writes to; for those that come and go, the catalogue."""
    run: Callable[[CollectionCatalogue], object]
    apply: Callable[[State], State]


def vector_of(name: str, seed: int) -> NDArray[np.float32]:
    made = np.random.default_rng([seed, *name.encode()]).standard_normal(DIMENSION).astype(np.float32)
    return (made / np.linalg.norm(made.astype(np.float64))).astype(np.float32)


def upsert(collection: str, names: list[str], seed: int) -> Operation:
    writes = [RecordWrite(id=name, vector=vector_of(name, seed), metadata={"seed": seed, "n": 0}) for name in names]
    return Operation(
        f"upsert {len(names)} into {collection}",
        collection,
        lambda catalogue: catalogue.get(collection).upsert(writes, space="", request_id=f"upsert-{seed}"),
        lambda state: {**state, collection: {**state[collection], **{name: (seed, 0) for name in names}}},
    )


def delete(collection: str, names: list[str], number: int) -> Operation:
    return Operation(
        f"delete {len(names)} from {collection}",
        collection,
        lambda catalogue: catalogue.get(collection).delete(names, request_id=f"delete-{number}"),
        lambda state: {**state, collection: {key: one for key, one in state[collection].items() if key not in names}},
    )


def update(collection: str, name: str, seed: int, number: int) -> Operation:
    metadata = {"seed": seed, "n": number}
    return Operation(
        f"update {name}",
        collection,
        lambda catalogue: catalogue.get(collection).update_metadata(name, metadata, request_id=f"update-{number}"),
        lambda state: {**state, collection: {**state[collection], name: (seed, number)}},
    )


def create(collection: str) -> Operation:
    def run(catalogue: CollectionCatalogue) -> None:
        try:
            catalogue.create(CollectionSpec(name=collection, space="", dimension=DIMENSION))
        except CollectionExists:
            assert catalogue.get(collection).count() == 0

    return Operation(f"create {collection}", "", run, lambda state: {**state, collection: {}})


def drop(collection: str) -> Operation:
    def run(catalogue: CollectionCatalogue) -> None:
        # It may have been done by the attempt before, whose caller got an error all the same.
        with suppress(CollectionNotFound):
            catalogue.delete(collection)

    return Operation(
        f"drop {collection}", "", run, lambda state: {key: one for key, one in state.items() if key != collection}
    )


def settle(collection: str) -> Operation:
    def run(catalogue: CollectionCatalogue) -> None:
        assert catalogue.get(collection).settle(30)

    return Operation("settle", collection, run, lambda state: state)


RESTART = Operation("restart", "", lambda _: None, lambda state: state)


def operations() -> list[Operation]:
    """Every kind of write, an index build, its replacement, and a restart between them."""
    first, second = [f"r{n}" for n in range(12)], [f"r{n}" for n in range(12, 26)]
    return [
        create("notes"),
        upsert("notes", first, 1),
        upsert("notes", second, 2),
        settle("notes"),
        update("notes", "r3", 1, 1),
        delete("notes", ["r1", "r13", "nobody"], 1),
        create("extra"),
        upsert("extra", ["x", "y"], 3),
        upsert("notes", [f"r{n}" for n in range(6, 18)], 4),
        settle("notes"),
        drop("extra"),
        RESTART,
        update("notes", "r7", 4, 2),
        delete("notes", ["r0", "r2"], 2),
        create("extra"),
        upsert("notes", ["r0", "r30"], 5),
        upsert("extra", ["z"], 6),
    ]


@dataclass
class Oracle:
    """What was acknowledged, and what may have happened although it was not."""

    state: State = field(default_factory=dict)
    unknown: dict[str, list[Operation]] = field(default_factory=dict)
    """Per place, operations that failed last. Of them one may come to light after a crash."""

    def acknowledge(self, operation: Operation) -> None:
        self.state = operation.apply(self.state)
        self.unknown.pop(operation.place, None)

    def fail(self, operation: Operation) -> None:
        self.unknown.setdefault(operation.place, []).append(operation)

    def possible(self) -> Iterator[State]:
        """Every state that may be found after a crash."""
        states = [self.state]
        for operations in self.unknown.values():
            states += [operation.apply(state) for state in states for operation in operations]
        yield from states


class Load:
    """Runs operations as a client does: what fails with a known error is tried again under its request id.

    Args:
        folder: The data folder.
        give_up: Asked after each failure: whether to stop.
    """

    def __init__(self, folder: Path, *, give_up: Callable[[], bool]) -> None:
        self.oracle = Oracle()
        self.attempts: dict[str, int] = {}
        """Per operation that failed, how often."""
        self._folder = folder
        self._give_up = give_up
        self._catalogue: CollectionCatalogue | None = None

    def run(self) -> bool:
        """Runs all operations; false where it gave up."""
        try:
            return all(self._run(operation) for operation in operations())
        finally:
            self.close()

    def close(self) -> None:
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def open_again(self) -> CollectionCatalogue:
        """Opens the folder, as often as that takes."""
        assert self._run(RESTART)
        catalogue, self._catalogue = self._open(), None
        return catalogue

    def _run(self, operation: Operation) -> bool:
        if operation is RESTART:
            self.close()
        for _ in range(ATTEMPTS):
            try:
                operation.run(self._open())
            except ServingError:
                self.attempts[operation.name] = self.attempts.get(operation.name, 0) + 1
                self.oracle.fail(operation)
                if self._give_up():
                    return False
            else:
                self.oracle.acknowledge(operation)
                return True
        raise AssertionError(f"{operation.name} never succeeded again")

    def _open(self) -> CollectionCatalogue:
        if self._catalogue is None:
            try:
                self._catalogue = CollectionCatalogue(self._folder, CONFIG)
            except OSError as error:
                # A start may fail with the system's own words: there is no caller yet.
                raise Unavailable("the folder does not open") from error
        return self._catalogue


def read_state(catalogue: CollectionCatalogue) -> State:
    """Returns all that is stored, after checking that it is what was written."""
    assert not catalogue.damaged()
    return {info.spec.name: _contents(catalogue.get(info.spec.name)) for info in catalogue.list()}


def _contents(collection: Collection) -> Contents:
    records: list[Record] = []
    while page := collection.list(page_size=1_000, after_id=records[-1].id if records else ""):
        records += page
    assert len(records) == collection.count()
    contents: dict[str, tuple[int, int]] = {}
    for record in records:
        seed, number = record.metadata["seed"], record.metadata["n"]
        assert isinstance(seed, int)
        assert isinstance(number, int)
        np.testing.assert_allclose(record.vector, vector_of(record.id, seed), atol=1e-6)
        contents[record.id] = (seed, number)
    return contents


def check_found(catalogue: CollectionCatalogue, rng: random.Random) -> None:
    """Every record finds itself, exactly and by whatever index there is; then a write still works."""
    for info in catalogue.list():
        collection = catalogue.get(info.spec.name)
        contents = _contents(collection)
        if contents:
            queries = np.stack([vector_of(name, seed) for name, (seed, _) in contents.items()])
            for exact in (True, False):
                hits = collection.search(queries, space="", k=1, exact=exact)
                assert [hit.ids[0] for hit in hits] == list(contents)
        name = f"after-{rng.random()}"
        collection.upsert([RecordWrite(id=name, vector=vector_of(name, 9))], space="")
        collection.delete([name])
