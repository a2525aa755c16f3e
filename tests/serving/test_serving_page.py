"""docs/serving.md is what an operator goes by: what it says of reasons, methods, limits and metrics is so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from prometheus_client import CollectorRegistry

from serving.config import ServerConfig
from serving.encoders.config import RuntimeConfig
from serving.encoders.pool import EncoderPool
from serving.errors import ServingError
from serving.rpc.assembly import service_names
from serving.rpc.encoder_metrics import EncoderMetrics
from serving.rpc.limits import published_limits
from serving.rpc.metrics import CallMetrics
from serving.rpc.status import status_code
from serving.workers.fleet import Fleet

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "serving.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def every_error() -> list[type[ServingError]]:
    found = [ServingError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found[1:]


def test_each_reason_stands_beside_its_status() -> None:
    table = {row[0]: row[1] for row in rows_of("Errors")}
    for cls in every_error():
        code = status_code(cls.__new__(cls)).name
        assert f"`{cls.reason}`" in table[code], cls


def test_each_service_is_named_with_its_health() -> None:
    health = " ".join(row[0] for row in rows_of("Health"))
    for name in (name for names in service_names().values() for name in names):
        assert f"`{name}`" in health


def test_the_limits_are_the_published_ones() -> None:
    shown = [row[1] for row in rows_of("Limits")]
    limits = published_limits()
    assert shown == [
        f"{limits.max_message_bytes // 2**20} MiB",
        f"{limits.max_batch_size:,}",
        f"{limits.max_query_count:,}",
        f"{limits.max_k:,}",
        f"{limits.max_example_count} each",
        f"{limits.max_page_size:,}",
        f"{limits.max_record_id_bytes} bytes",
        f"{limits.max_dimension:,}",
    ]


def test_the_flags_have_the_defaults_that_are_shown() -> None:
    config = ServerConfig()
    defaults = {field.name: getattr(config, field.name) for field in fields(ServerConfig)}
    for group in (config.runtime, config.logs, config.tracing):
        defaults |= {field.name: getattr(group, field.name) for field in fields(group)}
    for flags, shown, _ in rows_of("Flags"):
        names = [flag.strip("` ").removeprefix("--").replace("-", "_") for flag in flags.split(",")]
        values = [value.strip("` ") for value in shown.split(",")]
        for name, value in zip(names, values, strict=True):
            default = defaults[name]
            assert value == (
                "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
            )


def test_the_metrics_have_the_names_that_are_shown() -> None:
    registry: CollectorRegistry = CallMetrics().registry
    pool = EncoderPool(RuntimeConfig())
    registry.register(EncoderMetrics(pool))
    merged = Fleet(ServerConfig(workers=2), pool).merge(registry)
    ours = {metric.name for metric in merged.collect() if metric.name.startswith("diptych_")}
    assert ours == {row[0].strip("`") for row in rows_of("Metrics") if "process" not in row[0]}


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    registry: CollectorRegistry = CallMetrics().registry
    registry.register(EncoderMetrics(EncoderPool(RuntimeConfig())))
    families = {metric.name for metric in registry.collect()}
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    names = set(re.findall(r"\b(?:diptych|process)_[a-z_]+", asked))
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names} <= families
    shown = {name for name in families if name.startswith("diptych_")}
    assert {name for name in shown if name not in asked} == set()
