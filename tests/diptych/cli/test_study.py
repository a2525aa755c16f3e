"""`diptych study methods` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.cli.main import main
from tests.training.evaluation.tiny_runs import make_image_pack


def test_a_study_leaves_a_table_and_a_picture_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_image_pack(tmp_path / "pack")
    command = ["study", "methods", "--data", str(tmp_path / "pack"), "--out", str(tmp_path / "study")]
    flags = ["--budget", "1e7", "--threads", "1", "--split", "test", "--markdown"]

    assert main([*command, *flags, "--methods", "rotation"]) == 0
    first = capfd.readouterr()
    assert main([*command, *flags, "--methods", "rotation", "supervised"]) == 0
    second = capfd.readouterr()

    assert "cell 1 of 1: rotation, seed 0" in first.err
    assert "rotation" not in "".join(line for line in second.err.splitlines() if line.startswith("cell"))
    assert "cell 2 of 2: supervised, seed 0" in second.err
    lines = second.out.splitlines()
    assert lines[0].startswith("| method | labels | seeds | k-NN | linear |")
    names = {line.split("|")[1].strip() for line in lines[2:]}
    assert names == {"rotation", "supervised", "raw-pixels (floor)", "centred-pixels (floor)", "untrained (floor)"}
    assert second.out in (tmp_path / "study/table.md").read_text()
    assert (tmp_path / "study/study.png").stat().st_size > 5000


def test_what_cannot_be_studied_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "methods", "--data", str(tmp_path), "--out", str(tmp_path / "study")]) == 1
    assert "is no pack" in capsys.readouterr().err
    make_image_pack(tmp_path / "pack")
    command = ["study", "methods", "--data", str(tmp_path / "pack"), "--out", str(tmp_path / "study")]
    assert main([*command, "--methods", "magic"]) == 1
    assert "no method 'magic'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--budget", "-1"])
    assert "--budget (-1.0) must be > 0" in capsys.readouterr().err
