from __future__ import annotations

import pytest

from training.config import OptimiserConfig, Schedule
from training.fit.schedule import check_schedule, rate_factor


def test_constant_is_constant() -> None:
    assert {rate_factor(OptimiserConfig(), step, 10) for step in range(10)} == {1.0}


def test_cosine_goes_from_the_full_rate_to_nearly_0() -> None:
    config = OptimiserConfig(schedule=Schedule.COSINE)

    assert rate_factor(config, 0, 100) == 1.0
    assert rate_factor(config, 50, 100) == pytest.approx(0.5)
    assert rate_factor(config, 75, 100) == pytest.approx(0.14644661)
    assert rate_factor(config, 100, 100) == pytest.approx(0.0)


def test_warmup_rises_linearly_and_hands_over_to_the_cosine() -> None:
    config = OptimiserConfig(schedule=Schedule.COSINE, warmup_steps=4)

    assert [rate_factor(config, step, 24) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate_factor(config, 14, 24) == pytest.approx(0.5)


def test_a_warmup_below_1_is_a_share_of_the_run() -> None:
    config = OptimiserConfig(schedule=Schedule.COSINE, warmup_steps=0.25)

    assert [rate_factor(config, step, 16) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate_factor(config, 0, 3) == 1.0
    for steps in (1, 2, 3, 1000):
        check_schedule(config, steps)


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--warmup-steps \(100\) must be < the run's steps \(100\)"):
        check_schedule(OptimiserConfig(warmup_steps=100), 100)
    check_schedule(OptimiserConfig(warmup_steps=99), 100)
