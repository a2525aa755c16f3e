"""`diptych embed --bundle BUNDLE FILES --out FOLDER` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diptych.cli.main import main
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle
from tests.training.corpora.pictures import noise, png


def test_a_folder_of_pictures_becomes_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_image_bundle(tmp_path / "bundle")
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        (tmp_path / f"pictures/{number}.png").write_bytes(png(noise(number)))
    (tmp_path / "pictures/3.png").write_bytes(b"no picture")
    words = ["embed", "--bundle", str(tmp_path / "bundle"), str(tmp_path / "pictures"), "--out", str(tmp_path / "out")]

    assert main([*words, "--shard-inputs", "2", "--encoding", "float16"]) == 1  # one failed

    said = capsys.readouterr()
    assert "3 shards by 'tiny-image', 3 of them with 5 inputs done now, 1 inputs failed" in said.out
    assert "3.png:" in said.err
    shard = np.load(tmp_path / "out/shard-00001.npy")
    assert shard.dtype == np.float16
    assert not shard[1].any()
    assert main([*words, "--shard-inputs", "2", "--encoding", "float16", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shards"], told["own_shards"], told["failed"]) == (3, 0, 0)
    assert main([*words, "--shard-inputs", "3", "--encoding", "float16"]) == 1
    assert "another shard_inputs (2, not 3)" in capsys.readouterr().err


def test_what_a_job_cannot_give_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_text_bundle(tmp_path / "bundle")
    command = ["embed", "--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), str(tmp_path / "a.txt")]
    assert main([*command, "--encoding", "int8"]) == 1
    assert "a job takes files, and gives whole float32 or float16 vectors" in capsys.readouterr().err
