"""Log lines for an operator: time, level, event, and the event's fields, as text or as JSON.

What callers send is in no line. Events are constant sentences, their fields names and counts; of a traceback the lines
of code are written, but not the message of an exception that may quote a text or an id.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from serving.telemetry.config import LogConfig

__all__ = ["FieldsFormatter", "JsonFormatter", "configure_logging", "log_unhandled"]

logger = logging.getLogger(__name__)

OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
OWN_PACKAGES = ("diptych", "models", "serving")
TELLING_MODULES = frozenset({"apsw", "onnxruntime"})
"""Whose exceptions speak of files, shapes and nodes, not of what was sent."""
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def describe(error: BaseException) -> str:
    """Names an exception, with its message only where that cannot hold what a caller sent.

    Args:
        error: The exception.

    Returns:
        Its class; the message follows for errors of the kernel, of SQLite and of ONNX Runtime.
    """
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    from_kernel = isinstance(error, OSError) and error.errno is not None
    return f"{name}: {error}" if from_kernel or kind.__module__.split(".")[0] in TELLING_MODULES else name


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception and what led to it, last to first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def trace_lines(error: BaseException | None) -> str:
    """Writes the traceback of an exception and of what led to it, first to last.

    Args:
        error: The exception.

    Returns:
        Lines of code, and each exception as `describe` names it.
    """
    written = ("".join([*traceback.format_tb(one.__traceback__), describe(one)]) for one in _chain(error))
    return "\nwhich led to:\n".join(reversed(list(written)))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in OWN_FIELDS}


class FieldsFormatter(logging.Formatter):
    """Appends what a call gave as `extra`, so that constant events keep their values."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, with its traceback below.

        Args:
            record: The event.

        Returns:
            Text, of several lines where there is a traceback.
        """
        record.exc_text = None  # what another handler's formatter left there holds the message
        text = super().format(record)
        record.exc_text = None
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Returns the line without its traceback.

        Args:
            record: The event.

        Returns:
            The line, `key=value` for each field at its end.
        """
        fields = "".join(f" {key}={value!r}" for key, value in sorted(_fields(record).items()))
        return super().formatMessage(record) + fields

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """Returns a traceback.

        Args:
            ei: Type, exception, traceback.

        Returns:
            As `trace_lines` writes it.
        """
        return trace_lines(ei[1])


class JsonFormatter(logging.Formatter):
    """Writes each event as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line.

        Args:
            record: The event.

        Returns:
            `time`, `level`, `logger` and `event` first, then the event's fields; ASCII.
        """
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in _fields(record).items() if key not in line}
        if record.exc_info:
            error = record.exc_info[1]
            line |= {"exception": describe(error) if error else "", "traceback": trace_lines(error)}
        return json.dumps(line, default=str)


def configure_logging(config: LogConfig) -> None:
    """Sends the log to stderr; only a command calls this, never the library.

    Args:
        config: Format and least level.
    """
    is_json = config.log_format == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else FieldsFormatter())
    # Other libraries' notes are theirs to word, so that only their warnings are taken: Pillow's tell of pixels.
    logging.basicConfig(level=max(logging.WARNING, _level(config)), handlers=[handler], force=True)
    for package in OWN_PACKAGES:
        logging.getLogger(package).setLevel(_level(config))
    logging.captureWarnings(is_json)
    if not is_json:
        # Starting and stopping is announced to people in sentences.
        logging.getLogger("serving.server").setLevel(logging.WARNING)
    threading.excepthook = _log_thread_error


def _level(config: LogConfig) -> int:
    return logging.getLevelNamesMapping()[config.log_level.upper()]


def _log_thread_error(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit:
        return
    logger.critical("unexpected error in a thread", exc_info=arguments.exc_value)


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what no task waits for; an event loop's exception handler, in place of one that quotes the exception.

    Args:
        _loop: The event loop.
        context: What it knows.
    """
    logger.error("unexpected error in a task", exc_info=context.get("exception"))
