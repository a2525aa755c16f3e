from __future__ import annotations

import pytest
import torch

from training.fit.collapse import CollapseError, ProjectionMonitor, spread

AXES = torch.cat([torch.eye(3), -torch.eye(3)])


def test_spread_is_1_on_the_whole_sphere_and_0_in_a_point() -> None:
    assert spread(AXES * 7) == pytest.approx(1.0)  # variance 1/3 per dimension
    assert spread(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-6)


def test_spread_of_half_a_circle() -> None:
    # (1,0) and (0,1): standard deviation 0.5 in both dimensions.
    assert spread(torch.tensor([[2.0, 0.0], [0.0, 3.0]])) == pytest.approx(0.5 * 2**0.5)


def test_measures_are_those_of_the_papers() -> None:
    monitor = ProjectionMonitor(threshold=0.0, max_steps=1)
    monitor.add(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))

    found = monitor.measure()

    assert found["uniformity"] == pytest.approx(-4.396349, abs=1e-5)
    assert found["rankme"] == pytest.approx(2.0, abs=1e-4)


def test_rank_1_has_rankme_1() -> None:
    monitor = ProjectionMonitor(threshold=0.0, max_steps=1)
    monitor.add(torch.outer(torch.linspace(1, 2, 8), torch.tensor([0.6, 0.8])))

    assert monitor.measure()["rankme"] == pytest.approx(1.0, abs=1e-4)


def test_only_the_latest_rows_count() -> None:
    monitor = ProjectionMonitor(capacity=6, threshold=0.0, max_steps=1)
    monitor.add(torch.ones(50, 3))
    monitor.add(AXES)

    assert monitor.measure()["rankme"] == pytest.approx(3.0, abs=1e-4)


def test_one_vector_that_moves_from_batch_to_batch_is_collapsed() -> None:
    monitor = ProjectionMonitor(threshold=0.0, max_steps=1)
    for axis in AXES:
        monitor.add(axis.expand(4, 3))

    assert monitor.measure()["spread"] == pytest.approx(0.0, abs=1e-6)


def test_no_rank_before_there_are_as_many_rows_as_dimensions() -> None:
    monitor = ProjectionMonitor(threshold=0.0, max_steps=1)
    monitor.add(AXES[:2])

    assert "rankme" not in monitor.measure()


def test_three_low_measurements_after_a_tenth_stop_the_run() -> None:
    monitor = ProjectionMonitor(threshold=0.05, max_steps=100)
    low, high = {"spread": 0.01}, {"spread": 0.5}

    for step in range(1, 10):
        monitor.judge(low, step)  # too early to judge
    monitor.judge(low, 10)
    monitor.judge(low, 11)
    monitor.judge(high, 12)
    monitor.judge(low, 13)
    monitor.judge(low, 14)
    with pytest.raises(CollapseError, match=r"step 15.*0\.0100.*--collapse-threshold \(0\.05\).*--learning-rate"):
        monitor.judge(low, 15)


def test_its_state_goes_on_where_it_was() -> None:
    first = ProjectionMonitor(threshold=0.05, max_steps=1)
    first.add(AXES)
    first.judge({"spread": 0.0}, 1)
    first.judge({"spread": 0.0}, 1)
    second = ProjectionMonitor(threshold=0.05, max_steps=1)

    second.load_state_dict(first.state_dict())

    assert second.measure() == first.measure()
    with pytest.raises(CollapseError):
        second.judge({"spread": 0.0}, 1)
