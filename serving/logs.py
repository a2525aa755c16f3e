"""Log lines for an operator: time, level, event, and the event's fields."""

from __future__ import annotations

import logging
import sys

__all__ = ["FieldsFormatter", "configure_logging"]

OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class FieldsFormatter(logging.Formatter):
    """Appends what a call gave as `extra`, so that constant events keep their values."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Returns the line without its traceback.

        Args:
            record: The event.

        Returns:
            The line, `key=value` for each field at its end.
        """
        extra = {key: value for key, value in record.__dict__.items() if key not in OWN_FIELDS}
        fields = "".join(f" {key}={value!r}" for key, value in sorted(extra.items()))
        return super().formatMessage(record) + fields


def configure_logging(level: int = logging.INFO) -> None:
    """Sends the log to stderr; only a command calls this, never the library.

    Args:
        level: Least level that is shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
