"""What the server logs: the events that the documentation lists, and nothing of what callers send."""

from __future__ import annotations

import ast
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from diptych.client.calls import RetryPolicy
from diptych.client.errors import ClientError
from diptych.client.sync import Client
from diptych.v1 import embedding_pb2, encoder_service_pb2, encoder_service_pb2_grpc
from serving.rpc.protocols.descriptors import message_class

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serving.md").read_text()
MARK = "Zanzibar7381"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ALWAYS = {"time", "level", "logger", "event"}


def table(heading: str) -> dict[str, set[str]]:
    """The first cells of a table of the log's section, with the names in their second cells."""
    section = re.split(r"\n##+ ", PAGE.split(f"\n### {heading}\n", 1)[1], maxsplit=1)[0]
    rows = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("| `")]
    return {cell: set(re.findall(r"`([^`]+)`", row[1])) for row in rows for cell in re.findall(r"`([^`]+)`", row[0])}


@dataclass
class Logged:
    """A server process, and what it wrote once it has ended."""

    address: str
    lines: list[str] = field(default_factory=list)


@contextmanager
def logging_server(folder: Path, log_format: str) -> Iterator[Logged]:
    command = [sys.executable, "-m", "tests.serving.telemetry.logging_server", str(folder), log_format]
    log = folder / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            said = iter(process.stdout.readline, "")
            logged = Logged(next(line for line in said if line.startswith("listening on")).split()[2].rstrip(","))
            next(line for line in said if line.startswith("ready"))
            yield logged
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    logged.lines = log.read_text().splitlines()


def use(address: str) -> None:
    """Sends the mark in every way there is to send something."""
    with Client(address, retries=RetryPolicy(attempts=1)) as client:
        client.embed([f"{MARK} one"])
        client.embed([MARK, " "], allow_partial=True)
        client.embed(images=[b"IMG" + MARK.encode()])
        client.create_collection("notes", encoder="words", retain_sources=True)
        client.upsert("notes", [f"{MARK}-id"], texts=[f"{MARK} two"], metadata=[{MARK: MARK}])
        client.upsert("notes", ["v"], vectors=np.full((1, 8), 0.738173, np.float32), space="space-of-words")
        client.search("notes", text=MARK)
        client.get("notes", [f"{MARK}-id"])
        list(client.embed_stream([[MARK], [f"{MARK} three"]]))
        left = client.embed_stream(repeat([MARK]))
        next(left)
        left.close()  # type: ignore[attr-defined]  # it is a generator
        failing: list[Any] = [
            lambda: client.embed(images=[MARK.encode()]),
            lambda: client.embed([f"{MARK} " * 9], truncate=False),
            lambda: client.embed([f"{MARK} explode"]),
            lambda: client.embed([f"{MARK} collapse"]),
            lambda: client.embed([MARK], encoder=MARK),
            lambda: client.search(MARK, text="one"),
            lambda: client.search("notes", record=MARK),
            lambda: client.search("notes", vector=np.full(3, 0.738173, np.float32), space="space-of-words"),
            lambda: client.update_metadata("notes", MARK, {MARK: MARK}),
        ]
        for call in failing:
            with pytest.raises(ClientError):
                call()


def use_raw(address: str) -> None:
    """Sends it in ways that our client would not."""
    requests = {
        "/diptych.v1.EncoderService/Embed": [
            b"\x0a\xff" + MARK.encode(),
            encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text=MARK)] * 10_001).SerializeToString(),
            encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text=MARK * 2**22)]).SerializeToString(),
        ],
        "/inference.GRPCInferenceService/ModelInfer": [
            message_class("inference.ModelInferRequest")(
                model_name="words", inputs=[{"name": MARK, "datatype": "BYTES", "shape": [1]}]
            ).SerializeToString()
        ],
        "/tei.v1.Embed/Embed": [message_class("tei.v1.EmbedRequest")(inputs=f"{MARK} four").SerializeToString()],
        f"/{MARK}/{MARK}": [MARK.encode()],
    }
    with grpc.insecure_channel(address) as channel:
        for method, bodies in requests.items():
            for body in bodies:
                with suppress(grpc.RpcError):
                    channel.unary_unary(method)(body, metadata=(("x-note", MARK), ("traceparent", MARK)))
        embed: Any = encoder_service_pb2_grpc.EncoderServiceStub(channel).Embed
        request = encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text="five")], encoder="words")
        embed(request, metadata=[("traceparent", f"00-{TRACE_ID}-1122334455667788-01")])


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with logging_server(tmp_path_factory.mktemp("json"), "json") as logged:
        use(logged.address)
        use_raw(logged.address)
    return logged.lines


@pytest.fixture(scope="module")
def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_nothing_that_was_sent_is_in_the_log(lines: list[str]) -> None:
    assert len(lines) > 20
    for told in (MARK, MARK.lower(), "0.7381"):
        assert not [line for line in lines if told in line]


def test_every_line_is_an_object_with_the_documented_fields(events: list[dict[str, Any]]) -> None:
    documented = table("Events")
    documented["call"] = set(table("Calls"))
    for event in events:
        assert event.keys() >= ALWAYS, event
        assert datetime.fromisoformat(event["time"]).tzinfo == UTC
        if event["logger"].startswith("serving"):
            assert event.keys() - ALWAYS - {"exception", "traceback"} <= documented[event["event"]], event


def test_the_server_tells_its_life(events: list[dict[str, Any]]) -> None:
    life = [event for event in events if event["event"] not in ("call", "unexpected error", "batch failed")]
    told = [(event["level"], event["event"], event.get("encoder") or event.get("bundle")) for event in life]
    assert told[0] == ("info", "server listening", None)
    assert set(told[1:4]) == {
        ("warning", "bundle refused", "broken"),
        ("info", "encoder loaded", "pictures@1"),
        ("info", "encoder loaded", "words@1"),
    }
    assert told[4] == ("info", "server ready", None)
    assert told[-2:] == [("info", "server draining", None), ("info", "server stopped", None)]
    assert (life[4]["encoders"], life[4]["collections"]) == (2, 0)
    assert life[-1]["finished"] is True


def test_every_call_has_a_line(events: list[dict[str, Any]]) -> None:
    calls = [event for event in events if event["event"] == "call"]
    names = ("method", "code", "reason", "encoder", "collection", "items", "failed_items")
    told = [tuple(call.get(name) for name in names) for call in calls]
    embed, search = "diptych.v1.EncoderService/Embed", "diptych.v1.SearchService/Search"
    upsert = "diptych.v1.CollectionService/UpsertRecords"
    assert told[:5] == [
        (embed, "OK", None, "words@1", None, 1, None),
        (embed, "OK", None, "words@1", None, 2, 1),
        (embed, "OK", None, "pictures@1", None, 1, None),
        ("diptych.v1.CollectionService/CreateCollection", "OK", None, None, "notes", None, None),
        (upsert, "OK", None, "words@1", "notes", 1, None),
    ]
    assert (search, "OK", None, "words@1", "notes", 1, None) in told
    assert ("diptych.v1.EncoderService/EmbedStream", "OK", None, "words@1", None, 2, None) in told
    assert (embed, "INTERNAL", "INTERNAL", "words@1", None, 1, None) in told
    assert (embed, "NOT_FOUND", "ENCODER_NOT_FOUND", None, None, 1, None) in told
    assert (search, "NOT_FOUND", "COLLECTION_NOT_FOUND", None, None, 1, None) in told
    assert (search, "INVALID_ARGUMENT", "DIMENSION_MISMATCH", None, "notes", 1, None) in told
    assert (embed, "INVALID_ARGUMENT", "INPUT_TOO_LARGE", None, None, 10_001, None) in told
    assert ("tei.v1.Embed/Embed", "OK", None, "words@1", None, 1, None) in told
    first = encoder_service_pb2.EmbedRequest(inputs=[embedding_pb2.Input(text=f"{MARK} one")])
    assert calls[0]["request_bytes"] >= first.ByteSize()
    assert all(call["duration_s"] > 0 and call["peer"].startswith("ipv4:127.0.0.1:") for call in calls)
    assert [call["trace_id"] for call in calls if "trace_id" in call] == [TRACE_ID]


def test_a_defect_has_its_lines_of_code_but_not_its_message(events: list[dict[str, Any]]) -> None:
    defects = {event["event"]: event for event in events if event["level"] == "error"}
    assert defects["unexpected error"]["exception"] in ("RuntimeError", "ValueError")
    assert defects["batch failed"]["exception"] == "ValueError"
    assert "in run\n    raise ValueError(f" in defects["batch failed"]["traceback"]
    assert defects["batch failed"]["encoder"] == "words@1"


def test_the_text_holds_nothing_that_was_sent_either(tmp_path: Path) -> None:
    with logging_server(tmp_path, "text") as logged, Client(logged.address) as client:
        client.embed([MARK])
        with pytest.raises(ClientError):
            client.embed([f"{MARK} explode"])
    text = "\n".join(logged.lines)
    assert MARK not in text
    assert re.search(
        r"INFO serving.rpc.observation: call code='OK' duration_s=\S+ encoder='words@1' items=1 method=", text
    )
    assert text.count("\nRuntimeError") == 1
    assert "server listening" not in text


def test_every_event_is_documented() -> None:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "serving").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
                event = ast.literal_eval(node.args[0])
                literals = [keyword.value for keyword in node.keywords if isinstance(keyword.value, ast.Dict)]
                names = [ast.literal_eval(key) for literal in literals for key in literal.keys if key is not None]
                found.setdefault(event, set()).update(names)
    documented = table("Events")
    assert found.keys() == documented.keys()
    for event, logged in found.items():
        assert logged <= documented[event], event
