from __future__ import annotations

import json
from pathlib import Path

from models.bundle.verify import verify_bundle
from tests.models.bundle.tiny_bundle import make_text_bundle


def test_a_sound_bundle_passes_every_check(tmp_path: Path) -> None:
    manifest = make_text_bundle(tmp_path / "b", int8_noise=0.01)

    report = verify_bundle(tmp_path / "b")

    assert report.passed
    assert [check.name for check in report.checks] == ["manifest", "files", "text identity", "text fp32", "text int8"]
    assert manifest.encoders[0].space in report.checks[2].detail
    assert manifest.encoders[0].graphs["fp32"].fingerprint in report.checks[3].detail
    assert (report.name, report.version) == ("tiny-text", "1")


def test_every_damaged_file_is_reported_at_once(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").unlink()
    (tmp_path / "b" / "onnx" / "model.onnx").write_bytes(b"short")
    (tmp_path / "b" / "more").write_bytes(b"")

    report = verify_bundle(tmp_path / "b")

    details = " ".join(check.detail for check in report.checks if not check.passed)
    assert "'more' is not part" in details
    assert "'onnx/model.onnx' has 5 bytes" in details
    assert "'tokenizer.json' is missing" in details


def test_a_graph_that_strays_fails_and_the_others_are_still_checked(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b", int8_noise=3.0)
    passed = {check.name: check.passed for check in verify_bundle(tmp_path / "b").checks}
    assert passed["text fp32"]
    assert not passed["text int8"]


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "b")
    values = json.loads(json.dumps(verify_bundle(tmp_path / "b").to_json()))
    assert values["passed"] is True
    assert values["checks"][0] == {"name": "manifest", "passed": True, "detail": "format version 1, sealed"}


def test_a_folder_that_is_no_bundle_is_a_finding(tmp_path: Path) -> None:
    report = verify_bundle(tmp_path / "nothing")
    assert not report.passed
    assert "is no bundle" in report.checks[0].detail
