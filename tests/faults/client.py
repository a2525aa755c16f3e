"""A client that writes until the server dies, and that knows what it may then find."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from diptych.client.metadata import metadata_of_values, values_of_metadata
from diptych.client.tensors import array_of_tensor, tensor_of_vectors
from diptych.v1 import collection_pb2, search_service_pb2
from diptych.v1 import collection_service_pb2 as pb
from diptych.v1.collection_service_pb2_grpc import CollectionServiceStub
from diptych.v1.search_service_pb2_grpc import SearchServiceStub

__all__ = ["COLLECTION", "COUNTER", "DIMENSION", "Stored", "WritingClient", "read_all", "vector_of"]

COLLECTION = "notes"
COUNTER = "counter"
"""A record that all clients change, each on condition that no other has since it was read."""
DIMENSION = 8
POOL = 150
"""Ids of one client: most writes meet a record that is there."""
TIMEOUT_S = 30
ALL_PARTS = collection_pb2.RecordParts(vector=True, metadata=True)


@dataclass(frozen=True)
class Stored:
    """A record: the seed of its vector, a number in its metadata, its version (0: not known)."""

    seed: int
    number: int
    version: int = 0


Records = Mapping[str, Stored]


@dataclass(frozen=True)
class Pending:
    """A call whose answer never came."""

    send: Callable[[CollectionServiceStub], Any]
    """Sends it, under the same request id each time."""
    apply: Callable[[Records, Any], Records]
    """What it makes of the records, given its answer; None: not known."""


def vector_of(name: str, seed: int) -> NDArray[np.float32]:
    made = np.random.default_rng([seed, *name.encode()]).standard_normal(DIMENSION).astype(np.float32)
    return (made / np.linalg.norm(made.astype(np.float64))).astype(np.float32)


class WritingClient:
    """One thread's client, over ids of its own; its calls are known to have happened, or one of them is pending.

    Args:
        number: Its own among the clients.
        seed: Of all its choices.
    """

    def __init__(self, number: int, seed: int) -> None:
        self._name = f"c{number}"
        self._rng = random.Random(seed)
        self._calls = 0
        self.records: Records = {}
        """As acknowledged."""
        self.increments = 0
        """Of the counter, as acknowledged."""
        self.pending: Pending | None = None
        self.acknowledged = 0
        """Calls."""

    def write(self, address: str) -> None:
        """Writes until the server is gone."""
        with grpc.insecure_channel(address) as channel:
            stub = CollectionServiceStub(channel)
            try:
                while True:
                    self._call(stub, self._choose(stub))
            except grpc.RpcError as error:
                if code_of(error) not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    raise

    def resolve(self, stub: CollectionServiceStub, found: Records) -> None:
        """Compares what is stored after a crash with what was acknowledged; repeats what was pending.

        Args:
            stub: To the server that was started since.
            found: Its records of this client's ids.
        """
        pending, self.pending = self.pending, None
        before, after = self.records, self.records if pending is None else pending.apply(self.records, None)
        assert matches(found, before) or matches(found, after), describe(found, before, after)
        if pending is None:
            return
        answer = pending.send(stub)
        self.records = pending.apply(before, answer)

    def mine(self, name: str) -> bool:
        """Says whether a record is this client's."""
        return name.startswith(f"{self._name}-")

    def _call(self, stub: CollectionServiceStub, pending: Pending) -> None:
        self.pending = pending
        answer = pending.send(stub)
        self.pending = None
        self.records = pending.apply(self.records, answer)
        self.acknowledged += 1

    def _choose(self, stub: CollectionServiceStub) -> Pending:
        kinds = [self._upsert, self._upsert, self._upsert_on_condition, self._delete, self._update]
        if self._rng.random() < 0.15:
            return self._count(stub)
        return self._rng.choice(kinds)()

    def _request_id(self) -> str:
        self._calls += 1
        return f"{self._name}-{self._calls}"

    def _names(self, most: int) -> list[str]:
        return [f"{self._name}-{n}" for n in self._rng.sample(range(POOL), self._rng.randint(1, most))]

    def _upsert(self, names: list[str] | None = None, if_versions: Mapping[str, int] | None = None) -> Pending:
        names = names or self._names(30)
        seed = self._calls + 1
        metadata = metadata_of_values({"seed": seed, "n": 0})
        request = pb.UpsertRecordsRequest(
            collection=COLLECTION,
            records=[
                pb.RecordWrite(id=name, metadata=metadata, if_version=(if_versions or {}).get(name)) for name in names
            ],
            vectors=tensor_of_vectors(np.stack([vector_of(name, seed) for name in names])),
            request_id=self._request_id(),
        )

        def apply(records: Records, answer: Any) -> Records:
            versions = [0] * len(names) if answer is None else answer.versions
            return {**records, **{name: Stored(seed, 0, v) for name, v in zip(names, versions, strict=True)}}

        return Pending(lambda stub: stub.UpsertRecords(request, timeout=TIMEOUT_S), apply)

    def _upsert_on_condition(self) -> Pending:
        """Says of each record which version it has, 0 where it is not there: a second doing would be refused."""
        names = self._names(10)
        return self._upsert(names, {name: self.records[name].version if name in self.records else 0 for name in names})

    def _delete(self) -> Pending:
        names = self._names(8)
        request = pb.DeleteRecordsRequest(collection=COLLECTION, ids=names, request_id=self._request_id())
        there = len(set(names) & set(self.records))

        def apply(records: Records, answer: Any) -> Records:
            assert answer is None or answer.deleted_count == there
            return {name: one for name, one in records.items() if name not in names}

        return Pending(lambda stub: stub.DeleteRecords(request, timeout=TIMEOUT_S), apply)

    def _update(self) -> Pending:
        if not self.records:
            return self._upsert()
        name = self._rng.choice(sorted(self.records))
        number = self._calls + 1
        request = pb.UpdateRecordMetadataRequest(
            collection=COLLECTION,
            id=name,
            metadata=metadata_of_values({"seed": self.records[name].seed, "n": number}),
            if_version=self.records[name].version,
            request_id=self._request_id(),
        )

        def apply(records: Records, answer: Any) -> Records:
            version = 0 if answer is None else answer.version
            return {**records, name: replace(records[name], number=number, version=version)}

        return Pending(lambda stub: stub.UpdateRecordMetadata(request, timeout=TIMEOUT_S), apply)

    def _count(self, stub: CollectionServiceStub) -> Pending:
        reply = stub.GetRecords(pb.GetRecordsRequest(collection=COLLECTION, ids=[COUNTER]), timeout=TIMEOUT_S)
        (record,) = reply.records
        count = values_of_metadata(record.metadata)["n"]
        assert isinstance(count, int)
        request = pb.UpdateRecordMetadataRequest(
            collection=COLLECTION,
            id=COUNTER,
            metadata=metadata_of_values({"seed": 0, "n": count + 1}),
            if_version=record.version,
            request_id=self._request_id(),
        )

        def send(stub: CollectionServiceStub) -> Any:
            try:
                return stub.UpdateRecordMetadata(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                if code_of(error) is not grpc.StatusCode.ABORTED:
                    raise
                # Another client was quicker.
                return None

        def apply(records: Records, answer: Any) -> Records:
            self.increments += answer is not None
            return records

        return Pending(send, apply)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    # Each of them is the call that failed, which its type does not say.
    code: grpc.StatusCode = cast("Any", error).code()
    return code


def matches(found: Records, expected: Records) -> bool:
    """Says whether records are as expected; versions where they are known."""
    return found.keys() == expected.keys() and all(
        found[name] == (replace(one, version=found[name].version) if one.version == 0 else one)
        for name, one in expected.items()
    )


def describe(found: Records, before: Records, after: Records) -> str:
    names = sorted({*found, *before, *after})
    lines = [f"{name}: found {found.get(name)}, before {before.get(name)}, after {after.get(name)}" for name in names]
    different = [line for name, line in zip(names, lines, strict=True) if found.get(name) != before.get(name)]
    return "neither what was acknowledged nor that and the pending call:\n" + "\n".join(different)


def read_all(stub: CollectionServiceStub, search: SearchServiceStub) -> Records:
    """Reads every record, checks that it is what was written, and that searches find it."""
    found: dict[str, Stored] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    token = ""
    while True:
        request = pb.ListRecordsRequest(collection=COLLECTION, page_size=1_000, page_token=token, parts=ALL_PARTS)
        reply = stub.ListRecords(request, timeout=TIMEOUT_S)
        for record in reply.records:
            values = values_of_metadata(record.metadata)
            seed, number = values["seed"], values["n"]
            assert isinstance(seed, int)
            assert isinstance(number, int)
            found[record.id] = Stored(seed, number, record.version)
            vectors[record.id] = array_of_tensor(record.vector)
            np.testing.assert_allclose(vectors[record.id], vector_of(record.id, seed), atol=1e-6)
        token = reply.next_page_token
        if not token:
            break
    count = stub.CountRecords(pb.CountRecordsRequest(collection=COLLECTION), timeout=TIMEOUT_S).record_count
    assert count == len(found)
    for exact in (True, False):
        parameters = search_service_pb2.SearchParameters(k=1, exact=exact)
        batch = search_service_pb2.BatchSearchRequest(
            collection=COLLECTION, vectors=tensor_of_vectors(np.stack(list(vectors.values()))), parameters=parameters
        )
        neighbours = search.BatchSearch(batch, timeout=TIMEOUT_S).neighbours
        hits = [(one.ids[0], one.versions[0]) for one in neighbours]
        assert hits == [(name, found[name].version) for name in vectors]
    return found
