"""The servers that are measured, each in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Peers", "RunningServer", "diptych_server", "infinity_server", "sentence_transformers"]

START_S = 180.0
INFINITY = ("infinity-emb[optimum,server]==0.0.78",)
SENTENCE_TRANSFORMERS = ("sentence-transformers==5.7.0", "transformers==4.57.6")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    address: str
    """`host:port`."""
    pid: int
    ready_s: float
    """From the command until it says that it is ready."""


class Peers:
    """Environments of other projects' programs, made where they are missing.

    Args:
        out: Where they are kept.
    """

    def __init__(self, out: Path) -> None:
        self._out = out.absolute() / "peers"

    def python(self, name: str, requirements: Sequence[str]) -> Path:
        """Returns the interpreter of an environment."""
        folder = self._out / name
        python = folder / "bin" / "python"
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            uv = str(Path(sys.executable).parent / "uv")
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *requirements], check=True)
            (folder / "complete").touch()
        return python


@contextmanager
def diptych_server(bundle: Path, folder: Path, *flags: str) -> Iterator[RunningServer]:
    """Starts `diptych serve` over one bundle."""
    words = ["serve", "--bundles", str(bundle), "--data", str(folder / "data"), "--port", "0", *flags]
    command = [sys.executable, "-m", "diptych.cli.main", *words]
    log = folder / "server.log"
    with _process(command, log) as process:
        begin_s = time.perf_counter()
        while "ready after" not in log.read_text():
            _require_running(process, log)
            time.sleep(0.01)
        found = re.search(r"listening on ([^\s,]+)", log.read_text())
        assert found is not None
        yield RunningServer(found.group(1), process.pid, time.perf_counter() - begin_s)


@contextmanager
def infinity_server(peers: Peers, bundle: Path, folder: Path, port: int = 7997) -> Iterator[RunningServer]:
    """Starts infinity-emb with its ONNX engine on the same fp32 weights."""
    model = folder / "model"
    model.mkdir()
    for file in bundle.glob("*.json"):
        shutil.copy(file, model)
    shutil.copy(bundle / "onnx" / "model.onnx", model / "model.onnx")
    launcher = Path(__file__).with_name("infinity_launcher.py").absolute()
    flags = [
        "--engine",
        "optimum",
        "--device",
        "cpu",
        "--pooling-method",
        "mean",
        "--batch-size",
        "32",
        "--no-model-warmup",
        "--port",
        str(port),
    ]
    command = [str(peers.python("infinity", INFINITY)), str(launcher), "v2", "--model-id", str(model), *flags]
    log = folder / "infinity.log"
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "HF_HOME": str(folder / "hugging-face")}
    with _process(command, log, quiet) as process:
        begin_s = time.perf_counter()
        while not _answers(f"http://127.0.0.1:{port}/health"):
            _require_running(process, log)
            time.sleep(0.1)
        yield RunningServer(f"127.0.0.1:{port}", process.pid, time.perf_counter() - begin_s)


@contextmanager
def sentence_transformers(peers: Peers, model: Path, texts: Path) -> Iterator[subprocess.Popen[str]]:
    """Starts sentence-transformers' `encode` with torch; it measures for each number of seconds on its stdin."""
    script = Path(__file__).with_name("sentence_transformers_encode.py")
    python = peers.python("sentence-transformers", SENTENCE_TRANSFORMERS)
    process = subprocess.Popen(
        [str(python), str(script), str(model), str(texts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("sentence-transformers did not start; run the script by hand to see why")
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _process(
    command: Sequence[str], log: Path, variables: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as lines:
        process = subprocess.Popen(command, stderr=lines, stdout=lines, env=os.environ | (variables or {}))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _require_running(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(log.read_text())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False
