"""`diptych serve --workers N` in a process of its own, over bundles that load in milliseconds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from diptych.client.sync import Client
from diptych.v1 import admin_service_pb2, admin_service_pb2_grpc, embedding_pb2, encoder_service_pb2
from diptych.v1.encoder_service_pb2_grpc import EncoderServiceStub
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle

WAIT_S = 30.0
EMBED = "/diptych.v1.EncoderService/Embed"
TEXTS = ("a cat", "stars", "the dog sat")


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {WAIT_S:.0f} s"
        time.sleep(0.05)


class FleetServer:
    """A server of several processes, from outside."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = ""

    def wait_until_ready(self) -> None:
        ended = self.process.poll
        wait_until(lambda: "ready after" in self.log or ended() is not None, "the server's readiness")
        found = re.search(r"listening on ([^\s,]+)", self.log)
        assert found is not None, self.log
        assert ended() is None, self.log
        self.address = found.group(1)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def worker(self, number: int = 1) -> int:
        """The process of a worker, as it answered last."""
        return int(re.findall(rf"worker answers number={number} pid=(\d+)", self.log)[-1])

    def stop(self) -> int:
        """Ends it as an operator does; returns its exit code once nobody writes to its log any more."""
        self.process.terminate()
        return self._end()

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def _end(self) -> int:
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert not self._reader.is_alive(), "a worker outlived the owner"
        return code

    def clear_away(self) -> None:
        """Ends whatever a failed test left."""
        self.process.kill()
        self.process.wait()
        self._reader.join(2.0)
        for pid in re.findall(r"worker answers number=\d+ pid=(\d+)", self.log):
            if self._reader.is_alive() and runs(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
        self._reader.join(WAIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def embedded_by(self) -> dict[str, float]:
        """Calls of `Embed` by the process that answered them."""
        with Client(self.address) as client:
            found = re.findall(
                rf'diptych_rpc_duration_seconds_count\{{[^}}]*method="{EMBED}",worker="(\d+)"\}} (\S+)',
                client.metrics(),
            )
        return {number: float(count) for number, count in found}


def runs(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent is none."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


@contextmanager
def fleet_server(folder: Path, *flags: str, workers: int = 2) -> Iterator[FleetServer]:
    """A server that answers with all its processes; killed at the end where it was not stopped."""
    make_text_bundle(folder / "bundles" / "words", name="words")
    make_image_bundle(folder / "bundles" / "pictures", name="pictures")
    command = [sys.executable, "-m", "diptych.cli.main", "serve", "--workers", str(workers), "--port", "0"]
    command += ["--bundles", str(folder / "bundles"), "--data", str(folder / "data"), "--threads", "1", *flags]
    environment = {**os.environ, "TMPDIR": str(folder)}
    running = FleetServer(folder, subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.clear_away()


@contextmanager
def channels(address: str, count: int) -> Iterator[list[grpc.Channel]]:
    """Connections of their own, which the kernel spreads over those who listen."""
    with ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [stack.enter_context(grpc.insecure_channel(address, options=options)) for _ in range(count)]


@contextmanager
def one_channel_each(server: FleetServer, processes: int = 2) -> Iterator[list[grpc.Channel]]:
    """One connection to each process, the owner's first; connections are made until every process has one."""
    with channels(server.address, 24) as opened:
        found: dict[str, grpc.Channel] = {}
        for channel in opened:
            before = server.embedded_by()
            embed(channel, ["a cat"])
            after = server.embedded_by()
            [number] = [number for number in after if after[number] > before.get(number, 0)]
            found.setdefault(number, channel)
            if len(found) == processes:
                break
        assert len(found) == processes, f"24 connections reached only {sorted(found)}"
        yield [found[number] for number in sorted(found)]


def embed(channel: grpc.Channel, texts: list[str], *, timeout_s: float = WAIT_S) -> bytes:
    """Embeds with the text encoder; returns the vectors as bytes."""
    request = encoder_service_pb2.EmbedRequest(
        encoder="words", inputs=[embedding_pb2.Input(text=text) for text in texts]
    )
    reply = EncoderServiceStub(channel).Embed(request, timeout=timeout_s)
    return bytes(reply.vectors.data)


def metrics_of(channel: grpc.Channel) -> str:
    request = admin_service_pb2.GetServerMetricsRequest()
    return admin_service_pb2_grpc.AdminServiceStub(channel).GetServerMetrics(request, timeout=WAIT_S).exposition
