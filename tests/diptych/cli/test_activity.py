from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from diptych.cli.activity import Sample, measure, quantile, read_sample

INFINITE = float("inf")


def sample(**values: float) -> Sample:
    return Sample({(name, frozenset()): value for name, value in values.items()})


def test_quantiles_lie_within_their_bucket() -> None:
    buckets = [(1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (INFINITE, 100.0)]
    assert quantile(0.25, buckets) == pytest.approx(1.5)
    assert quantile(0.5, buckets) == pytest.approx(2.0)
    assert quantile(0.99, buckets) == pytest.approx(3.96)
    assert quantile(0.5, [(1.0, 0.0), (INFINITE, 3.0)]) == 1.0  # nothing is known above the last bound
    assert quantile(0.5, [(1.0, 0.0), (INFINITE, 0.0)]) is None
    assert quantile(0.5, []) is None


def test_rates_are_of_the_time_between_two_looks() -> None:
    registry = CollectorRegistry()
    in_flight = Gauge("diptych_rpc_in_flight", "", ["method"], registry=registry)
    duration = Histogram("diptych_rpc_duration_seconds", "", ["method", "code"], buckets=(0.1, 1.0), registry=registry)

    def call(code: str, seconds: float, times: int) -> None:
        for _ in range(times):
            duration.labels("/A/B", code).observe(seconds)

    in_flight.labels("/A/B").set(3)
    in_flight.labels("/A/Idle").set(0)
    call("OK", 0.05, 100)
    before = read_sample(generate_latest(registry).decode())
    call("OK", 0.5, 8)
    call("NOT_FOUND", 0.05, 2)
    after = read_sample(generate_latest(registry).decode())

    [found] = measure(before, after, 2.0).calls

    assert (found.method, found.calls_per_s, found.failures_per_s, found.in_flight) == ("/A/B", 5.0, 1.0, 3)
    median, high = found.latency_s
    assert median is not None
    assert high is not None
    assert 0.1 < median < high < 1.0  # of the ten new calls, not of the hundred before


def test_a_server_that_was_restarted_counts_from_zero() -> None:
    name = "process_cpu_seconds_total"
    assert measure(sample(**{name: 500.0}), sample(**{name: 3.0}), 2.0).cpu == 1.5
    assert measure(sample(**{name: 500.0}), sample(**{name: 503.0}), 2.0).cpu == 1.5


def test_the_processes_of_a_server_are_taken_together_and_each_counts_from_its_own_zero() -> None:
    def look(owner: float, worker: float) -> Sample:
        cpu = "process_cpu_seconds_total"
        return read_sample(
            f'# TYPE {cpu} counter\n{cpu}{{worker="0"}} {owner}\n{cpu}{{worker="1"}} {worker}\n'
            "# TYPE process_resident_memory_bytes gauge\n"
            'process_resident_memory_bytes{worker="0"} 100\nprocess_resident_memory_bytes{worker="1"} 23\n'
            "# TYPE diptych_encoder_serving gauge\n"
            'diptych_encoder_serving{encoder="words",worker="0"} 1\n'
        )

    found = measure(look(500, 90), look(503, 2), 2.0)
    assert (found.cpu, found.memory_bytes) == ((3 + 2) / 2, 123)
    assert [(encoder.name, encoder.is_serving) for encoder in found.encoders] == [("words", True)]


def test_the_cache_is_told_of_where_it_was_asked() -> None:
    def asked(hits: int, misses: int) -> Sample:
        values = {"hit": hits, "miss": misses}
        return Sample(
            {
                ("diptych_cache_items_total", frozenset({("result", result)})): float(count)
                for result, count in values.items()
            }
        )

    assert measure(asked(10, 10), asked(16, 12), 1.0).cache_hits == 0.75
    assert measure(asked(10, 10), asked(10, 10), 1.0).cache_hits is None
