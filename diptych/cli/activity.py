"""What a server did between two looks at its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CallActivity", "EncoderActivity", "Sample", "ServerActivity", "measure", "quantile", "read_sample"]

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: every value by its name and labels."""

    values: Mapping[tuple[str, Labels], float]
    workers: frozenset[str] = frozenset()
    """The processes that tell their values apart; none where there is only one."""

    def get(self, name: str, **labels: str) -> float:
        """Returns a value, of all processes together; 0 where there is none."""
        return sum(self.by_process(name, **labels).values())

    def by_process(self, name: str, **labels: str) -> Mapping[str, float]:
        """Returns the value of each process that has it; that of an only process under an empty name."""
        wanted = frozenset(labels.items())
        series = {"": (name, wanted)} | {one: (name, wanted | {("worker", one)}) for one in self.workers}
        return {one: self.values[key] for one, key in series.items() if key in self.values}

    def labelled(self, name: str, label: str) -> list[str]:
        """Returns the values that a label has in a family, sorted."""
        found = {dict(labels)[label] for known, labels in self.values if known == name and label in dict(labels)}
        return sorted(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderActivity:
    """One encoder's."""

    name: str
    is_serving: bool
    queued_cost: float
    """Tokens or pixels admitted and not answered, at the second look."""
    items_per_s: float
    cost_per_s: float
    """Tokens or pixels."""
    padding: float | None
    """Share of what the graph computed that was padding; None where nothing ran."""
    batch_items: float | None
    """Mean of the batches."""
    refused_per_s: float
    dropped_per_s: float
    latencies_s: Mapping[str, tuple[float | None, float | None]]
    """Median and 99th percentile by stage: prepare, queue, compute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallActivity:
    """One method's."""

    method: str
    calls_per_s: float
    failures_per_s: float
    in_flight: float
    latency_s: tuple[float | None, float | None]
    """Median and 99th percentile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerActivity:
    """All of it."""

    encoders: Sequence[EncoderActivity]
    calls: Sequence[CallActivity]
    cache_hits: float | None
    """Share of the look-ups; None where there were none."""
    memory_bytes: float
    cpu: float
    """Cores in use."""


def read_sample(exposition: str) -> Sample:
    """Reads a look.

    Args:
        exposition: Prometheus's text format.

    Returns:
        Its values.
    """
    from prometheus_client.parser import text_string_to_metric_families

    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    return Sample(
        {(sample.name, frozenset(sample.labels.items())): float(sample.value) for sample in samples},
        frozenset(sample.labels["worker"] for sample in samples if "worker" in sample.labels),
    )


def measure(before: Sample, after: Sample, elapsed_s: float) -> ServerActivity:
    """Compares two looks.

    Args:
        before: The earlier one; an empty one compares with the server's start.
        after: The later one.
        elapsed_s: Seconds between them, above 0.

    Returns:
        What was done in between.
    """

    def grown(name: str, **labels: str) -> float:
        # A process that was restarted in between counts from 0 again.
        earlier = before.by_process(name, **labels)
        values = after.by_process(name, **labels).items()
        return sum(value - earlier.get(one, 0.0) if value >= earlier.get(one, 0.0) else value for one, value in values)

    asked = grown("diptych_cache_items_total", result="hit") + grown("diptych_cache_items_total", result="miss")
    names = after.labelled("diptych_encoder_serving", "encoder")
    methods = after.labelled("diptych_rpc_in_flight", "method")
    calls = [_call(after, method, grown, elapsed_s) for method in methods]
    return ServerActivity(
        encoders=[_encoder(after, name, grown, elapsed_s) for name in names],
        calls=[call for call in calls if call.calls_per_s or call.in_flight],
        cache_hits=grown("diptych_cache_items_total", result="hit") / asked if asked else None,
        memory_bytes=after.get("process_resident_memory_bytes"),
        cpu=grown("process_cpu_seconds_total") / elapsed_s,
    )


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Estimates a quantile of a histogram, linearly within a bucket.

    Args:
        share: In (0, 1).
        buckets: Rising upper bounds, the last infinite, each with the values up to it.

    Returns:
        The value; the last finite bound where it lies above; None where there are no values.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound, so_far in buckets:
        if so_far >= share * total:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (share * total - below) / (so_far - below)
        lower, below = bound, so_far
    return lower


Grown = Callable[..., float]


def _encoder(after: Sample, name: str, grown: Grown, elapsed_s: float) -> EncoderActivity:
    cost = grown("diptych_encoder_cost_total", encoder=name)
    padded = grown("diptych_encoder_padded_cost_total", encoder=name)
    batches = grown("diptych_encoder_batch_items_count", encoder=name)
    items = grown("diptych_encoder_items_total", encoder=name)
    return EncoderActivity(
        name=name,
        is_serving=after.get("diptych_encoder_serving", encoder=name) > 0,
        queued_cost=after.get("diptych_encoder_queued_cost", encoder=name),
        items_per_s=items / elapsed_s,
        cost_per_s=cost / elapsed_s,
        padding=1 - cost / padded if padded else None,
        batch_items=items / batches if batches else None,
        refused_per_s=grown("diptych_encoder_refused_total", encoder=name) / elapsed_s,
        dropped_per_s=sum(
            grown("diptych_encoder_dropped_total", encoder=name, reason=reason) for reason in ("cancelled", "deadline")
        )
        / elapsed_s,
        latencies_s={
            stage: _latencies(after, "diptych_encoder_stage_seconds_bucket", grown, [{"encoder": name, "stage": stage}])
            for stage in ("prepare", "queue", "compute")
        },
    )


def _call(after: Sample, method: str, grown: Grown, elapsed_s: float) -> CallActivity:
    name = "diptych_rpc_duration_seconds"
    codes = {
        dict(labels)["code"]
        for known, labels in after.values
        if known == f"{name}_count" and ("method", method) in labels
    }
    counts = {code: grown(f"{name}_count", method=method, code=code) for code in codes}
    return CallActivity(
        method=method,
        calls_per_s=sum(counts.values()) / elapsed_s,
        failures_per_s=sum(count for code, count in counts.items() if code != "OK") / elapsed_s,
        in_flight=after.get("diptych_rpc_in_flight", method=method),
        latency_s=_latencies(after, f"{name}_bucket", grown, [{"method": method, "code": code} for code in codes]),
    )


def _latencies(
    after: Sample, name: str, grown: Grown, series: Sequence[Mapping[str, str]]
) -> tuple[float | None, float | None]:
    """Returns median and 99th percentile of histograms taken together."""
    buckets = [
        (float(bound), sum(grown(name, le=bound, **labels) for labels in series))
        for bound in sorted(after.labelled(name, "le"), key=float)
    ]
    return quantile(0.5, buckets), quantile(0.99, buckets)
