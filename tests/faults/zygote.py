"""Servers that can be killed by the hundred: a process that has loaded all a server needs forks one at each request.

`python -m tests.faults.zygote FOLDER` reads lines: `start` forks a server over FOLDER/data and prints its address,
`kill` ends it with SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.collections.config import CollectionsConfig
from serving.config import ServerConfig
from serving.server import serve

__all__ = ["Zygote", "zygote"]

# A base is built and replaced every few batches, so that kills fall into builds and swaps too.
COLLECTIONS = CollectionsConfig(
    auto_index_records=100, tail_min_records=40, tail_max_records=200, search_threads=1, build_threads=1
)


class Zygote:
    """The process that forks; one server at a time.

    Args:
        process: It.
        log: What the servers say.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def start(self) -> str:
        """Starts a server; returns its address."""
        answer = self._ask("start")
        assert ":" in answer, self._log.read_text()
        return answer

    def kill(self) -> None:
        """Kills it, and waits until it is gone."""
        assert self._ask("kill") == "killed", self._log.read_text()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    """A zygote over a folder; its last server is killed at the end."""
    log = folder / "server.log"
    (folder / "bundles").mkdir(exist_ok=True)
    with (
        log.open("w") as lines,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=lines,
            text=True,
        ) as process,
    ):
        yield Zygote(process, log)
        assert process.stdin is not None
        process.stdin.close()


def main(folder: Path) -> None:
    child = 0
    for line in sys.stdin:
        if line == "start\n":
            child = os.fork()
            if child == 0:
                os._exit(run_child(folder))
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            child = 0
            say("killed")
    if child:
        os.kill(child, signal.SIGKILL)


def run_child(folder: Path) -> int:
    try:
        return run_server(folder)
    except BaseException:
        traceback.print_exc()
        say("failed")
        return 1


def run_server(folder: Path) -> int:
    config = ServerConfig(bundles=folder / "bundles", data=folder / "data", port=0, collections=COLLECTIONS)

    def announce(line: str) -> None:
        if line.startswith("diptych serves on "):
            say(line.removeprefix("diptych serves on ").split()[0])

    return asyncio.run(serve(config, announce=announce))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
