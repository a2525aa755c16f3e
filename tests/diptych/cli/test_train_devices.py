from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.fit.metrics_log import read_metrics
from training.run_folder import load_run


@pytest.mark.slow  # two processes that import torch
def test_two_processes_train_one_encoder(tmp_path: Path) -> None:
    words = ("one", "two", "three", "four", "five", "six", "seven")
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(30):
        (texts / f"{number}.txt").write_text(" ".join(f"Sentence {word} of text {number}." for word in words))
    flags = "--devices 2 --accelerator cpu --threads 1 --max-steps 6 --log-every-steps 1 --batch-size 20 --recipe paper"
    shape = "--width 8 --embedding-width 8 --dropout 0.2 --vocab-size 300"
    command = [sys.executable, "-m", "diptych.cli.main", "train", "text", str(texts), str(tmp_path / "run")]

    done = subprocess.run(
        [*command, *flags.split(), *shape.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )

    assert done.returncode == 0, done.stderr
    # What one process says once must not be said twice.
    assert done.stdout == f"{tmp_path / 'run'}\n"
    assert [line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("training")] == [
        "training a tokenizer on the training documents",
        "training",
    ]
    rows = read_metrics(tmp_path / "run/metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    # 2 x 20 sentences are candidates; at first all are as good, but for a sentence and its own neighbours.
    assert rows[0]["loss"] == pytest.approx(math.log(39), abs=0.02)
    assert load_run(tmp_path / "run").config["environment"]["threads"] == 1
