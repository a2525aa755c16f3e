from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.client.sync import Client
from serving.config import ServerConfig
from serving.environment import from_environment


def serve(*flags: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "diptych.cli.main", "serve", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_server_is_configured_by_flags_and_environment_and_stops_on_sigterm(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    with serve("--bundles", str(bundles), DIPTYCH_PORT="0", DIPTYCH_DATA=str(tmp_path / "data")) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split()[2].rstrip(",")
            with Client(address) as client:
                client.wait_until_ready(20)
                client.create_collection("raw", dimension=1)
            with serve("--bundles", str(bundles), "--port", "0", "--data", str(tmp_path / "data")) as second:
                assert second.stderr is not None
                lines = second.stderr.read().splitlines()
                assert second.wait(20) == 1
                assert lines[-1].startswith(f"error: the data folder {tmp_path / 'data'} is in use by the server")
                assert "Traceback" not in "".join(lines)
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(20) == 0
            assert rest.splitlines()[-1] == "stopped"
        finally:
            process.kill()


def test_a_server_that_logs_json_writes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    places = ("--bundles", str(tmp_path / "bundles"), "--data", str(tmp_path / "data"), "--port", "0")
    with serve(*places, "--access-log", DIPTYCH_LOG_FORMAT="json") as process:
        try:
            assert process.stderr is not None
            with Client(json.loads(process.stderr.readline())["address"]) as client:
                client.wait_until_ready(20)
                client.server()
            process.send_signal(signal.SIGTERM)
            events = [json.loads(line) for line in process.stderr.read().splitlines()]
            assert process.wait(20) == 0
        finally:
            process.kill()
    told = [event.get("method", event["event"]) for event in events]
    ready, stop = ["server ready"], ["server draining", "server stopped"]
    assert told == [*ready, "diptych.v1.AdminService/GetServerInformation", *stop]


def test_every_setting_has_a_twin_in_the_environment(tmp_path: Path) -> None:
    config = from_environment(
        ServerConfig,
        {
            "DIPTYCH_DATA": str(tmp_path),
            "DIPTYCH_METRICS_PORT": "9090",
            "DIPTYCH_DRAIN_TIMEOUT_S": "1.5",
            "DIPTYCH_QUEUE_TOKENS": "77",
            "DIPTYCH_HNSW_M": "16",
            "DIPTYCH_HOST": "",
            "DIPTYCH_LOG_FORMAT": "json",
            "DIPTYCH_ACCESS_LOG": "true",
            "DIPTYCH_TRACES_RATIO": "0.1",
        },
    )
    assert config.data == tmp_path
    assert (config.metrics_port, config.drain_timeout_s, config.host) == (9090, 1.5, "127.0.0.1")
    assert (config.runtime.queue_tokens, config.collections.hnsw_m) == (77, 16)
    assert (config.logs.log_format, config.logs.access_log, config.logs.log_level) == ("json", True, "info")
    assert config.tracing.traces_ratio == 0.1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DIPTYCH_PORT", "many", r"DIPTYCH_PORT \('many'\) must be of type int"),
        ("DIPTYCH_PORT", "70000", r"port \(70000\) must be in \[0, 65535\]"),
        ("DIPTYCH_PRECISION", "fp8", "precision"),
        ("DIPTYCH_READ_THREADS", "0", r"read_threads \(0\) must be at least 1"),
        ("DIPTYCH_LOG_FORMAT", "xml", r"log_format \('xml'\) must be one of text, json"),
        ("DIPTYCH_LOG_LEVEL", "loud", r"log_level \('loud'\) must be one of debug, info, warning, error"),
        ("DIPTYCH_ACCESS_LOG", "maybe", r"DIPTYCH_ACCESS_LOG \('maybe'\) must be of type bool"),
        ("DIPTYCH_DRAIN_TIMEOUT_S", "-1", r"drain_timeout_s \(-1.0\)"),
    ],
)
def test_a_bad_setting_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_environment(ServerConfig, {variable: value})
