from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.bundle.errors import BundleError
from models.bundle.manifest import Manifest, read_manifest, write_manifest
from tests.models.bundle.tiny_bundle import make_text_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_text_bundle(tmp_path / "b")
    return tmp_path / "b"


def rewrite(bundle: Path, values: dict[str, Any]) -> None:
    (bundle / "diptych.json").write_text(json.dumps(values))


def read(bundle: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((bundle / "diptych.json").read_text())
    return values


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    manifest = make_text_bundle(tmp_path / "b")
    rich = replace(
        manifest,
        evaluation=({"metric": "mrr", "value": 0.25, "interval": [0.2, 0.3]},),
        provenance=replace(manifest.provenance, config={"steps": 3, "nested": {"x": None}}, seed=7),
    )
    write_manifest(rich, tmp_path / "b")
    found = read_manifest(tmp_path / "b")
    assert found == rich


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "a")
    make_text_bundle(tmp_path / "b")
    assert (tmp_path / "a" / "diptych.json").read_bytes() == (tmp_path / "b" / "diptych.json").read_bytes()


@pytest.mark.parametrize("field", ["name", "version", "files", "encoders", "provenance"])
def test_a_missing_field_is_named(bundle: Path, field: str) -> None:
    values = read(bundle)
    del values[field]
    rewrite(bundle, values)
    with pytest.raises(BundleError, match=f"diptych.json lacks the field '{field}'"):
        read_manifest(bundle)


def test_a_missing_inner_field_is_named_with_its_place(bundle: Path) -> None:
    values = read(bundle)
    del values["encoders"][0]["graphs"]["fp32"]["fingerprint"]
    rewrite(bundle, values)
    with pytest.raises(BundleError, match=r"encoders\[0\]: graphs\['fp32'\] lacks the field 'fingerprint'"):
        read_manifest(bundle)


def test_an_unknown_field_is_named(bundle: Path) -> None:
    rewrite(bundle, {**read(bundle), "colour": "red"})
    with pytest.raises(BundleError, match="unknown field 'colour'"):
        read_manifest(bundle)


def test_a_missing_format_version_is_named(bundle: Path) -> None:
    values = read(bundle)
    del values["format_version"]
    rewrite(bundle, values)
    with pytest.raises(BundleError, match="lacks the field 'format_version'"):
        read_manifest(bundle)


@pytest.mark.parametrize("version", [0, 2, "1", None, 99])
def test_another_format_version_is_refused_before_anything_else_is_read(bundle: Path, version: object) -> None:
    rewrite(bundle, {"format_version": version, "something": "new"})
    with pytest.raises(BundleError, match="this diptych reads version 1"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not Allowed"}, "name 'Not Allowed' must be 1 to 63 of a-z"),
        ({"name": 3}, "name must be str, not int"),
        ({"encoders": []}, "encoders is empty"),
        ({"encoders": {}}, "encoders must be a list, not dict"),
        ({"files": {}}, "is referred to but is not listed in files"),
    ],
)
def test_impossible_values_are_refused(bundle: Path, change: dict[str, Any], message: str) -> None:
    rewrite(bundle, {**read(bundle), **change})
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 0}, r"dimension \(0\) must be at least 1"),
        ({"metric": "hamming"}, "metric 'hamming' must be one of cosine, inner_product, l2"),
        ({"modality": "sound"}, "modality is 'sound'; it must be one of text, image"),
        ({"limits": {"image_size_px": 3}}, "state none for text"),
        ({"graphs": {}}, "graphs has no 'fp32'"),
        ({"dimension": True}, "dimension must be int, not bool"),
    ],
)
def test_impossible_encoders_are_refused(bundle: Path, change: dict[str, Any], message: str) -> None:
    values = read(bundle)
    values["encoders"][0].update(change)
    rewrite(bundle, values)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


def test_a_tolerance_that_allows_anything_is_refused(bundle: Path) -> None:
    values = read(bundle)
    values["encoders"][0]["golden"]["tolerance"] = 10
    rewrite(bundle, values)
    with pytest.raises(BundleError, match=r"golden.tolerance \(10.0\) must lie in \(0, 0.01\]"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": NaN}', "holds NaN, which is no JSON number"),
        ('{"format_version": 1, "format_version": 1}', "has the field 'format_version' twice"),
        ("[" * 100_000, "is no valid JSON"),
        ("[1]", "lacks the field 'format_version'"),
    ],
)
def test_json_that_is_no_manifest_is_refused(bundle: Path, text: str, message: str) -> None:
    (bundle / "diptych.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


def test_two_encoders_of_one_modality_are_refused(tmp_path: Path) -> None:
    manifest = make_text_bundle(tmp_path / "b")
    with pytest.raises(ValueError, match="encoders holds two of one modality"):
        Manifest(
            format_version=1,
            name="b",
            version="1",
            provenance=manifest.provenance,
            files=manifest.files,
            encoders=manifest.encoders * 2,
        )
