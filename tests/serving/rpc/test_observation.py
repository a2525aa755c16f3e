"""Calls that end in the middle; what the log says of the others is in `tests/serving/telemetry/test_log.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from diptych.v1 import embedding_pb2, encoder_service_pb2, encoder_service_pb2_grpc
from serving.rpc.interception import code_name
from serving.telemetry.config import LogConfig
from tests.serving.fake_encoders import FakeEncoder
from tests.serving.running_server import running_server


def request(encoder: str) -> encoder_service_pb2.EmbedRequest:
    return encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text="one")], encoder=encoder)


def batches(encoders: Iterable[str]) -> Iterator[encoder_service_pb2.EmbedStreamRequest]:
    return (encoder_service_pb2.EmbedStreamRequest(batch=request(encoder)) for encoder in encoders)


def calls_of(caplog: pytest.LogCaptureFixture, count: int) -> list[tuple[str, str]]:
    """Methods and codes of the calls that ended, once there are `count`."""
    deadline_s = time.monotonic() + 20
    while len(found := [record.__dict__ for record in caplog.records if record.message == "call"]) < count:
        assert time.monotonic() < deadline_s, f"{len(found)} calls ended, not {count}"
        time.sleep(0.01)
    assert all(call["peer"].startswith("ipv4:127.0.0.1:") for call in found)
    return [(call["method"].split("/")[1], call["code"]) for call in found]


def test_calls_whose_callers_leave_are_cancelled_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words, held, late = FakeEncoder("words"), FakeEncoder("held"), FakeEncoder("late")
    held.open.clear()
    late.open.clear()
    with (
        caplog.at_level(logging.INFO, "serving.rpc.observation"),
        running_server(tmp_path, [words, held, late], logs=LogConfig(access_log=True)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub: Any = encoder_service_pb2_grpc.EncoderServiceStub(channel)
        stream = stub.EmbedStream(batches(chain(["words"], repeat("held"))))
        assert next(stream).batch.encoder.name == "words"
        stream.cancel()
        assert calls_of(caplog, 1) == [("EmbedStream", "CANCELLED")]
        call = stub.Embed.future(request("late"))
        assert late.running.wait(10)
        call.cancel()
        assert calls_of(caplog, 2)[1] == ("Embed", "CANCELLED")
        held.open.set()
        late.open.set()


def test_a_caller_that_leaves_while_it_is_answered_leaves_the_server_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "serving.rpc.observation"),
        running_server(tmp_path, [FakeEncoder("words")], logs=LogConfig(access_log=True)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub: Any = encoder_service_pb2_grpc.EncoderServiceStub(channel)
        stream = stub.EmbedStream(batches(repeat("words")))
        next(stream)
        stream.cancel()
        assert calls_of(caplog, 1)[0][0] == "EmbedStream"
        assert len(stub.ListEncoders(encoder_service_pb2.ListEncodersRequest()).encoders) == 1


def test_a_stream_that_is_closed_where_it_yields_is_cancelled() -> None:
    assert code_name(GeneratorExit(), cast(Any, None)) == "CANCELLED"
