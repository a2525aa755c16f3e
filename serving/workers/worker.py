"""A worker's process: `python -m serving.workers.worker`, started by the owner, which holds its standard input open.

The first line of standard input is the worker's settings. The end of it is the end of the owner, and of the worker.
"""

from __future__ import annotations

import signal

# Ctrl-C in a terminal reaches every process of the group; the owner alone decides what it means.
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import asyncio
import logging
import os
import shutil
import sys
import threading

from serving.logs import configure_logging
from serving.workers.settings import WorkerSettings

__all__: list[str] = []

STANDARD_INPUT = 0


def _read_settings() -> WorkerSettings:
    line = b""
    while not line.endswith(b"\n"):
        # No more than the line: buffered reading in a thread would hold up the interpreter's end.
        byte = os.read(STANDARD_INPUT, 1)
        if not byte:
            sys.exit(1)
        line += byte
    return WorkerSettings.from_line(line)


def _end_with_owner(settings: WorkerSettings) -> None:
    """Waits for the owner's end; nobody is left then to answer for, or to clear away."""
    while os.read(STANDARD_INPUT, 1):
        pass
    shutil.rmtree(settings.owner_socket.parent, ignore_errors=True)
    os._exit(1)


def _name_log_lines(number: int) -> None:
    def name(record: logging.LogRecord) -> bool:
        record.worker = number
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(name)


async def _work(settings: WorkerSettings) -> int:
    from serving.workers.answering import WorkerServer

    configure_logging(settings.logs)
    _name_log_lines(settings.number)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = WorkerServer(settings)
    await server.listen()
    await stop.wait()
    return 0 if await server.close() else 1


def _main() -> int:
    settings = _read_settings()
    threading.Thread(target=_end_with_owner, args=(settings,), name="owner", daemon=True).start()
    return asyncio.run(_work(settings))


if __name__ == "__main__":
    sys.exit(_main())
