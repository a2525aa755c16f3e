"""`diptych top`: a running server, as it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from diptych.cli.connection import Connection
from diptych.cli.printing import WIDTH_OF_PIPES

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from diptych.cli.activity import ServerActivity
    from diptych.client.sync import Client

__all__ = ["Top"]

Server = Annotated[Connection, tyro.conf.OmitArgPrefixes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """Shows what a server does, until Ctrl-C: queues, batches, padding, speed and latencies of each encoder, and calls.

    Where the output is no terminal, one look is printed.
    """

    interval_s: float = 2.0
    """Seconds between two looks; above 0."""
    once: bool = False
    """Print one look and end."""
    json: bool = False
    """Print one look as JSON and end."""
    connection: Server = field(default_factory=Connection)
    """The server."""

    def run(self) -> int:
        """Looks again and again."""
        if self.interval_s <= 0:
            raise ValueError(f"--interval-s ({self.interval_s}) must be above 0")
        from rich.console import Console
        from rich.live import Live

        from diptych.cli.printing import print_json

        console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
        with self.connection.open() as client:
            looks = _looks(client, self.interval_s)
            if self.json:
                print_json(next(looks))
                return 0
            if self.once or not console.is_terminal:
                console.print(_page(next(looks)))
                return 0
            try:
                with Live(console=console, screen=True, auto_refresh=False) as live:
                    for activity in looks:
                        live.update(_page(activity), refresh=True)
            except KeyboardInterrupt:
                return 0
        return 0


def _looks(client: Client, interval_s: float) -> Iterator[ServerActivity]:
    from diptych.cli.activity import measure, read_sample

    before, seen_s = read_sample(client.metrics()), time.monotonic()
    while True:
        time.sleep(interval_s)
        after, now_s = read_sample(client.metrics()), time.monotonic()
        yield measure(before, after, now_s - seen_s)
        before, seen_s = after, now_s


def _page(activity: ServerActivity) -> RenderableType:
    from rich.console import Group

    line = f"{activity.cpu:.2f} cores, {activity.memory_bytes / 1e6:,.0f} MB"
    if activity.cache_hits is not None:
        line += f", {activity.cache_hits:.0%} of look-ups in the cache"
    return Group(line, _encoders(activity), _calls(activity))


def _encoders(activity: ServerActivity) -> Table:
    stages = ("prepare", "queue", "compute")
    columns = ["encoder", "queued", "items/s", "tokens or pixels/s", "padding", "batch", "refused/s", "dropped/s"]
    table = _table([*columns, *(f"{stage} p50 / p99 ms" for stage in stages)])
    for one in activity.encoders:
        table.add_row(
            one.name if one.is_serving else f"{one.name} (does not answer)",
            f"{one.queued_cost:,.0f}",
            f"{one.items_per_s:,.1f}",
            f"{one.cost_per_s:,.0f}",
            "" if one.padding is None else f"{one.padding:.1%}",
            "" if one.batch_items is None else f"{one.batch_items:.1f}",
            f"{one.refused_per_s:.1f}",
            f"{one.dropped_per_s:.1f}",
            *(_milliseconds(one.latencies_s[stage]) for stage in stages),
        )
    return table


def _calls(activity: ServerActivity) -> Table:
    table = _table(["method", "calls/s", "failed/s", "in flight", "p50 / p99 ms"])
    for one in activity.calls:
        figures = (f"{one.calls_per_s:,.1f}", f"{one.failures_per_s:,.1f}", f"{one.in_flight:.0f}")
        table.add_row(one.method.lstrip("/"), *figures, _milliseconds(one.latency_s))
    return table


def _table(columns: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _milliseconds(latency_s: tuple[float | None, float | None]) -> str:
    median, high = latency_s
    return "" if median is None or high is None else f"{median * 1e3:,.1f} / {high * 1e3:,.1f}"
