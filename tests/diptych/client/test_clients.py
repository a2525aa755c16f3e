"""Both clients against a real server, and against servers that fail on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from diptych import AsyncClient, Client
from diptych.client import errors
from diptych.client.calls import RetryPolicy
from diptych.client.statuses import CODE_NAMES
from diptych.v1 import collection_service_pb2 as pb
from tests.serving.fake_encoders import FakeEncoder, vector_of
from tests.serving.running_server import RunningServer, running_server

QUICK = RetryPolicy(first_pause_s=0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), [FakeEncoder("words")]) as running:
        yield running


class FlakyService:
    """Fails with the given statuses, then answers; keeps what it was asked."""

    def __init__(self, failures: Sequence[status_pb2.Status]) -> None:
        self.failures = list(failures)
        self.requests: list[Any] = []

    def handlers(self) -> grpc.GenericRpcHandler:
        counted = pb.CountRecordsResponse(record_count=7)
        written = pb.UpsertRecordsResponse(sequence=1, versions=[1])
        methods: dict[str, tuple[Any, Any]] = {
            "CountRecords": (pb.CountRecordsRequest, counted),
            "UpsertRecords": (pb.UpsertRecordsRequest, written),
            "CreateCollection": (pb.CreateCollectionRequest, pb.CreateCollectionResponse()),
        }
        return grpc.method_handlers_generic_handler(
            "diptych.v1.CollectionService",
            {name: self._handler(request_type, reply) for name, (request_type, reply) in methods.items()},
        )

    def _handler(self, request_type: Any, reply: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.requests.append(request)
            if self.failures:
                context.abort_with_status(rpc_status.to_status(self.failures.pop(0)))
            return reply

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=request_type.FromString, response_serializer=type(reply).SerializeToString
        )


@contextmanager
def flaky_server(*failures: status_pb2.Status) -> Iterator[tuple[FlakyService, str]]:
    service = FlakyService(failures)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((service.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def failure(code: grpc.StatusCode, *, retry_s: float | None = None) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message="on purpose")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="ON_PURPOSE", domain="diptych", metadata={"n": "1"}))
    if retry_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_s * 1e9))
        status.details.add().Pack(retry)
    return status


AWAY = failure(grpc.StatusCode.UNAVAILABLE)


def test_a_read_is_repeated_until_it_succeeds() -> None:
    with flaky_server(AWAY, AWAY) as (service, address), Client(address, retries=QUICK) as client:
        assert client.count("c") == 7
        assert len(service.requests) == 3


def test_a_write_is_repeated_under_the_same_request_id() -> None:
    with flaky_server(AWAY) as (service, address), Client(address, retries=QUICK) as client:
        client.upsert("c", ["a"], vectors=[[1.0]])
        assert len(service.requests) == 2
        assert service.requests[0].request_id == service.requests[1].request_id != ""


def test_what_must_not_happen_twice_is_not_repeated() -> None:
    with flaky_server(AWAY) as (service, address), Client(address, retries=QUICK) as client:
        with pytest.raises(errors.UnavailableError):
            client.create_collection("c", dimension=1)
        assert len(service.requests) == 1


def test_a_full_server_is_asked_again_when_it_said_and_only_then() -> None:
    full = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_s=0.01)
    with flaky_server(full) as (service, address), Client(address, retries=QUICK) as client:
        client.create_collection("c", dimension=1)
        assert len(service.requests) == 2
    with (
        flaky_server(failure(grpc.StatusCode.RESOURCE_EXHAUSTED)) as (service, address),
        Client(address, retries=QUICK) as client,
    ):
        with pytest.raises(errors.OverloadedError):
            client.count("c")
        assert len(service.requests) == 1


async def test_the_async_client_repeats_by_the_same_rules() -> None:
    with flaky_server(AWAY, AWAY) as (service, address):
        async with AsyncClient(address, retries=QUICK) as client:
            assert await client.count("c") == 7
        assert len(service.requests) == 3


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_is_an_error_that_keeps_what_the_server_said(code: grpc.StatusCode) -> None:
    with (
        flaky_server(failure(code)) as (_, address),
        Client(address, retries=RetryPolicy(attempts=1)) as client,
        pytest.raises(errors.ClientError) as caught,
    ):
        client.count("c")
    error = caught.value
    assert type(error) is errors.error_class(code.name)
    assert (error.message, error.code, error.reason, error.metadata) == (
        "on purpose",
        code.name,
        "ON_PURPOSE",
        {"n": "1"},
    )


def test_the_tree_of_errors_is_shown_whole() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        if name.endswith("Error"):
            assert f" {name} " in f" {errors.__doc__.replace(chr(10), ' ')} "
    assert set(CODE_NAMES.values()) >= set(errors.CLASS_BY_CODE)


def test_a_server_that_is_not_there_is_named_with_a_remedy() -> None:
    with Client("127.0.0.1:1", timeout_s=5, retries=RetryPolicy(attempts=1)) as client:
        with pytest.raises(errors.UnavailableError, match=r"no server answers at 127\.0\.0\.1:1 .*`diptych serve`"):
            client.encoders()
        with pytest.raises(errors.DeadlineError):
            client.wait_until_ready(0.2)


def test_a_batch_over_a_call_s_limit_comes_back_whole(server: RunningServer) -> None:
    texts = [f"text {row}" for row in range(1_200)]
    with Client(server.address) as client:
        found = client.embed(texts)
    assert found.vectors.shape == (1_200, 8)
    for row in (0, 999, 1_000, 1_199):
        np.testing.assert_array_equal(found.vectors[row], vector_of(texts[row]))
    assert len(found.token_counts) == 1_200


def test_errors_of_a_later_call_keep_the_caller_s_index(server: RunningServer) -> None:
    texts = [" " if row in (3, 1_005) else "text" for row in range(1_010)]
    with Client(server.address) as client:
        found = client.embed(texts, allow_partial=True)
    assert sorted(found.errors) == [3, 1_005]


def test_a_failed_later_call_says_what_is_written(server: RunningServer) -> None:
    with Client(server.address) as client:
        client.create_collection("parts", encoder="words")
        texts = [" " if row == 1_005 else "text" for row in range(1_010)]
        with pytest.raises(
            errors.InvalidArgumentError, match="the first 1000 records are written; of those from index 1000"
        ):
            client.upsert("parts", [str(row) for row in range(1_010)], texts=texts)
        assert client.count("parts") == 1_000
        client.delete_collection("parts")


async def test_the_async_client_does_what_the_other_does(server: RunningServer, tmp_path: Path) -> None:
    async with AsyncClient(server.address) as client:
        await client.wait_until_ready(10)
        assert (await client.server()).limits["max_k"] == 10_000
        assert [one.name for one in await client.encoders()] == ["words"]
        assert (await client.encoder("words")).dimension == 8
        await client.create_collection("notes", encoder="words")
        written = await client.upsert("notes", ["a", "b"], texts=["one", "two"], metadata=[{"n": 1}, {}])
        assert (await client.search("notes", text="one", k=1, min_sequence=written.sequence)).ids == ["a"]
        found = await client.batch_search("notes", texts=["two", "one"], k=1)
        assert [one.ids[0] for one in found] == ["b", "a"]
        assert [record.id async for record in client.records("notes", page_size=1)] == ["a", "b"]
        assert await client.update_metadata("notes", "a", {"n": 2}) == 3
        assert [record.metadata for record in await client.get("notes", ["a"]) if record] == [{"n": 2}]
        assert (await client.update_collection("notes", display_name="N")).display_name == "N"
        assert (await client.collection("notes")).record_count == 2
        assert (await client.delete("notes", ["a"])).deleted_count == 1
        assert await client.count("notes") == 1
        await client.delete_collection("notes")
        assert await client.collections() == []


async def test_the_async_stream_answers_in_order(server: RunningServer) -> None:
    async def batches() -> AsyncIterator[list[str]]:
        for row in range(10):
            yield [f"text {row}"]
            await asyncio.sleep(0)

    async with AsyncClient(server.address) as client:
        found = [one.vectors[0] async for one in client.embed_stream(batches())]
    np.testing.assert_array_equal(found, [vector_of(f"text {row}") for row in range(10)])
