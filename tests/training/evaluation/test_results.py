"""Rows survive the disk, and refuse what they would misread."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.environment import describe_environment
from training.evaluation.results import SCHEMA_VERSION, Result, read_results, write_results

ROW = Result(
    subject="simclr",
    subject_fingerprint="abc",
    data="emoji",
    data_fingerprint="def",
    split="test",
    task="cross-vendor",
    metric="recall@1",
    layer="embedding",
    parameters={"direction": "mean of 6"},
    n_gallery=176,
    n_query=1056,
    value=0.25,
    interval=(0.2, 0.3),
    seed=1,
    labels_used=0,
    flops=1e7,
    environment={"cpu": "some"},
)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, interval=None, seed=None, flops=None, value=-3.5)]
    write_results(tmp_path / "new" / "rows.json", rows)
    assert read_results(tmp_path / "new" / "rows.json") == rows


def test_a_file_is_replaced_whole_and_nothing_is_left_beside(tmp_path: Path) -> None:
    write_results(tmp_path / "rows.json", [ROW, ROW])
    write_results(tmp_path / "rows.json", [ROW])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    assert len(json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))) == 1


def test_a_value_that_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    write_results(tmp_path / "rows.json", [ROW])
    with pytest.raises(ValueError, match="Out of range"):
        write_results(tmp_path / "rows.json", [replace(ROW, value=float("nan"))])
    assert read_results(tmp_path / "rows.json") == [ROW]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_no_rows_are_an_empty_list(tmp_path: Path) -> None:
    write_results(tmp_path / "rows.json", [])
    assert read_results(tmp_path / "rows.json") == []


def test_every_field_of_the_schema_is_written() -> None:
    assert list(ROW.to_json()) == [
        "schema_version",
        "subject",
        "subject_fingerprint",
        "data",
        "data_fingerprint",
        "split",
        "task",
        "metric",
        "layer",
        "parameters",
        "n_gallery",
        "n_query",
        "value",
        "interval",
        "seed",
        "labels_used",
        "flops",
        "environment",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "schema version"),
        ({"surprise": 1}, "no field surprise"),
        ({"interval": [0.3, 0.2]}, "must not end before it begins"),
    ],
)
def test_rows_that_would_be_misread_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Result.from_json({**ROW.to_json(), **change})


def test_an_incomplete_row_is_refused() -> None:
    values = ROW.to_json()
    del values["value"]
    with pytest.raises(ValueError, match=r"incomplete.*value"):
        Result.from_json(values)


@pytest.mark.parametrize(("content", "message"), [("{", "no JSON"), ("{}", "list of result rows"), ("[1]", "list of")])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "rows.json")


def test_environment_says_processor_threads_and_versions() -> None:
    found = describe_environment()
    assert {"cpu", "threads", "accelerator", "platform", "python", "torch", "numpy"} <= set(found)
    assert int(found["threads"]) >= 1
    assert all(found.values())
