from __future__ import annotations

from pathlib import Path

from training.fit.metrics_log import MetricsLog, read_metrics


def test_every_digit_survives(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write(10, 0, {"loss": 0.1 + 0.2, "spread": 1e-17})
    log.close()

    assert read_metrics(tmp_path / "metrics.csv") == [
        {"step": 10, "epoch": 0, "loss": 0.30000000000000004, "spread": 1e-17}
    ]


def test_a_figure_that_comes_later_gets_a_column(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write(1, 0, {"loss": 2.0})
    log.write(2, 0, {"loss": 1.0, "rankme": 3.0})
    log.write(3, 1, {"loss": 0.5})
    log.close()

    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,loss,rankme\n1,0,2.0,\n2,0,1.0,3.0\n3,1,0.5,\n"


def test_a_resumed_log_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in (10, 20, 30):
        log.write(step, 0, {"loss": float(step)})
    log.close()

    resumed = MetricsLog(tmp_path, first_step=20)
    resumed.write(30, 1, {"loss": -1.0})
    resumed.close()

    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path / "metrics.csv")] == [
        (10, 10),
        (20, 20),
        (30, -1),
    ]


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.csv") == []
