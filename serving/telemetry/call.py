"""What becomes known of a call while it is served: names, counts and stages, never contents.

Who serves notes it without knowing who listens; where nobody does, noting costs one look-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

__all__ = ["CallRecord", "Stage", "current_call", "note_call", "stage", "stage_listener", "watch_call"]

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A part of a call's time."""

    name: str
    """`prepare`, `queue`, `compute`, `search` or `commit`."""
    start_s: float
    """Monotonic clock, as `end_s`."""
    end_s: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """Names and counts."""
    failed: bool = False
    """Whether it ended with an error."""


StageListener = Callable[[Stage], None]


@dataclass(slots=True)
class CallRecord:
    """One call."""

    method: str
    """`package.Service/Method`."""
    encoder: str = ""
    """The encoder that was asked, once it was found."""
    collection: str = ""
    """The collection, once it was found."""
    item_count: int = 0
    """Inputs, records or queries; those of all messages of a stream."""
    failed_item_count: int = 0
    """Those that failed for themselves."""
    request_bytes: int = 0
    """Encoded size of its messages."""
    reason: str = ""
    """Why it failed, for machines."""
    on_stage: StageListener | None = None
    """Hears of each stage once it has ended, on the event loop; None: nobody does."""


_CURRENT: ContextVar[CallRecord | None] = ContextVar("diptych_call", default=None)


def watch_call(call: CallRecord) -> None:
    """Makes a call the one that this task, and those it starts, serve.

    Args:
        call: The call.
    """
    _CURRENT.set(call)


def current_call() -> CallRecord | None:
    """Returns the call that this task serves; None where nobody watches it."""
    return _CURRENT.get()


def note_call(
    *, encoder: str = "", collection: str = "", items: int = 0, failed_items: int = 0, reason: str = ""
) -> None:
    """Notes what became known of the call that this task serves.

    Args:
        encoder: Name of an encoder that there is: a name that a caller made up is content.
        collection: Name of a collection that there is.
        items: Further inputs, records or queries.
        failed_items: Further ones that failed for themselves.
        reason: Why the call failed, as `ErrorInfo` says it.
    """
    call = _CURRENT.get()
    if call is None:
        return
    call.encoder = encoder or call.encoder
    call.collection = collection or call.collection
    call.reason = reason or call.reason
    call.item_count += items
    call.failed_item_count += failed_items


def stage_listener() -> StageListener | None:
    """Returns who hears of the stages of the call that this task serves; None where nobody does."""
    call = _CURRENT.get()
    return None if call is None else call.on_stage


@contextmanager
def stage(name: str, **attributes: Value) -> Iterator[None]:
    """Times a part of the call that this task serves.

    Args:
        name: As in `Stage`.
        **attributes: As in `Stage`.

    Yields:
        Nothing.
    """
    listener = stage_listener()
    if listener is None:
        yield
        return
    start_s, failed = time.monotonic(), True
    try:
        yield
        failed = False
    finally:
        end_s = time.monotonic()
        listener(Stage(name=name, start_s=start_s, end_s=end_s, attributes=attributes, failed=failed))
