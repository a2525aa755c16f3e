"""A bundle that tells what shorter vectors and int8 keep: written, read, checked; and one that tells nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.bundle.dial import DialSetting, DimensionDial, NeighbourAgreement
from models.bundle.encodings import Encoding
from models.bundle.errors import BundleError
from models.bundle.identity import digest
from models.bundle.load import load_bundle
from models.bundle.manifest import Manifest, Quantisation, read_manifest, write_manifest
from models.bundle.verify import verify_bundle
from tests.models.bundle.tiny_bundle import make_text_bundle

DIAL = DimensionDial(
    settings=(
        DialSetting(dimension=6, encoding=Encoding.FLOAT32, recall_at_10=1.0),
        DialSetting(dimension=6, encoding=Encoding.BINARY, recall_at_10=0.4),
        DialSetting(dimension=3, encoding=Encoding.FLOAT32, recall_at_10=0.93),
    ),
    n_query=200,
    n_gallery=199,
    source="some words",
)
AGREEMENT = NeighbourAgreement(recall_at_10=0.97, same_nearest=0.9, n_query=200, n_gallery=199, source="some words")


def make_measured(folder: Path) -> Manifest:
    manifest = make_text_bundle(folder, int8_noise=0.0)
    (entry,) = manifest.encoders
    int8 = replace(entry.graphs["int8"], quantisation=Quantisation.STATIC, neighbours=AGREEMENT)
    graphs = {**entry.graphs, "int8": int8}
    rich = replace(manifest, encoders=(replace(entry, graphs=graphs, dial=DIAL, truncatable_dimensions=(3,)),))
    write_manifest(rich, folder)
    return rich


def change(folder: Path, edit: Mapping[str, Any]) -> None:
    """Changes fields of the encoder, and seals anew."""
    values = json.loads((folder / "diptych.json").read_text())
    del values["seal"]
    values["encoders"][0].update(edit)
    (folder / "diptych.json").write_text(json.dumps({"seal": digest(values), **values}))


def test_a_dial_is_read_as_it_was_written_and_the_widths_are_offered(tmp_path: Path) -> None:
    rich = make_measured(tmp_path / "b")
    assert read_manifest(tmp_path / "b") == rich
    assert load_bundle(tmp_path / "b").encoders["text"].info.truncatable_dimensions == (3,)


def test_verify_tells_the_dial_and_what_int8_kept_at_export(tmp_path: Path) -> None:
    make_measured(tmp_path / "b")
    report = verify_bundle(tmp_path / "b")
    assert report.passed
    assert report.dials == {"text": DIAL}
    (int8,) = [check for check in report.checks if check.name == "text int8"]
    assert "static; at export recall@10 0.970 of fp32's neighbours (200 queries, some words)" in int8.detail
    assert report.to_json()["dials"]["text"]["settings"][2] == {
        "dimension": 3,
        "encoding": "float32",
        "recall_at_10": 0.93,
    }


def test_a_changed_figure_is_refused(tmp_path: Path) -> None:
    make_measured(tmp_path / "b")
    file = tmp_path / "b" / "diptych.json"
    text = file.read_text()
    assert text.count("0.93") == 1
    file.write_text(text.replace("0.93", "0.99"))
    with pytest.raises(BundleError, match="changed after export"):
        read_manifest(tmp_path / "b")


def test_a_bundle_from_before_there_was_a_dial_is_read(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b", int8_noise=0.0)
    values = json.loads((tmp_path / "b" / "diptych.json").read_text())
    del values["seal"]
    (entry,) = values["encoders"]
    del entry["dial"]
    for graph in entry["graphs"].values():
        del graph["neighbours"], graph["quantisation"]
    (tmp_path / "b" / "diptych.json").write_text(json.dumps({"seal": digest(values), **values}))

    (read,) = load_bundle(tmp_path / "b", precision="int8").manifest.encoders
    assert read.dial is None
    assert (read.graphs["int8"].neighbours, read.graphs["int8"].quantisation) == (None, Quantisation.NONE)
    report = verify_bundle(tmp_path / "b")
    assert report.passed
    assert report.dials == {}


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ({"truncatable_dimensions": [6]}, r"truncatable_dimensions \(6\) must lie in \[1, 6\)"),
        ({"truncatable_dimensions": [0]}, r"truncatable_dimensions \(0\) must lie in \[1, 6\)"),
        ({"dimension": 5, "truncatable_dimensions": []}, r"dial: dimension \(6\) must be at most 5"),
    ],
)
def test_widths_that_the_encoder_has_not_are_refused(tmp_path: Path, edit: Mapping[str, Any], fault: str) -> None:
    make_measured(tmp_path / "b")
    change(tmp_path / "b", edit)
    with pytest.raises(BundleError, match=fault):
        read_manifest(tmp_path / "b")


@pytest.mark.parametrize("recall", [-0.1, 1.1, float("nan")])
def test_a_recall_is_a_share(recall: float) -> None:
    with pytest.raises(ValueError, match=r"recall_at_10 \(.*\) must lie in \[0, 1\]"):
        DialSetting(dimension=3, encoding=Encoding.INT8, recall_at_10=recall)


def test_a_setting_is_told_once() -> None:
    with pytest.raises(ValueError, match="each width and encoding once"):
        replace(DIAL, settings=(DIAL.settings[0], DIAL.settings[0]))


def test_a_vector_takes_whole_bytes() -> None:
    assert [setting.size_bytes for setting in DIAL.settings] == [24, 1, 12]
