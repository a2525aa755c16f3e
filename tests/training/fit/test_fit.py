from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from training.batches.feed import Feed
from training.config import DeviceConfig, FitConfig, Precision
from training.fit.collapse import CollapseError, DivergenceError
from training.fit.fit import fit
from training.fit.interruption import Interrupted
from training.fit.metrics_log import read_metrics
from training.methods.base import LossOutput, Method, Progress

Build = Callable[[], Any]
Config = Callable[..., FitConfig]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def crash() -> None:
    raise RuntimeError("pulled the plug")


def test_a_method_is_called_in_the_order_of_its_contract(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    method = toy_method()

    fit(method, toy_feed, fit_config(max_steps=6), tmp_path / "run")

    expected = [(name, step) for step in range(5) for name in ("loss", "after_step")]
    assert method.calls == [*expected, ("at_epoch_end", 0), ("loss", 5), ("after_step", 5)]


def test_what_follows_the_step_sees_the_stepped_weights(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    method = toy_method()
    before = method.encoder.weight.detach().clone()

    fit(method, toy_feed, fit_config(max_steps=1), tmp_path / "run")

    assert not torch.equal(method.encoder.weight, before)
    assert torch.allclose(method.copy, 0.1 * method.encoder.weight)


@pytest.mark.parametrize(("action", "error"), [(interrupt, Interrupted), (terminate, Interrupted)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    action: Callable[[], None],
    error: type[BaseException],
    toy_method: Build,
    toy_feed: Feed,
    fit_config: Config,
    stop_after: Callable[..., Any],
    tmp_path: Path,
) -> None:
    straight, stopped = toy_method(), toy_method()
    config = fit_config(max_steps=12)
    fit(straight, toy_feed, config, tmp_path / "straight")

    with pytest.raises(error, match="stopped after step 7 of 12"):
        fit(stopped, toy_feed, config, tmp_path / "stopped", reporter=stop_after(7, action))
    resumed = toy_method()
    resumed.encoder.weight.data.zero_()  # everything must come from the checkpoint
    fit(resumed, toy_feed, config, tmp_path / "stopped", resume=True)

    assert_same_state(straight, resumed)
    assert (tmp_path / "straight/metrics.csv").read_text() == (tmp_path / "stopped/metrics.csv").read_text()
    assert resumed.calls[0] == ("loss", 7)


def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    toy_method: Build, toy_feed: Feed, fit_config: Config, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    straight = toy_method()
    config = fit_config(max_steps=12, checkpoint_every_steps=4)
    fit(straight, toy_feed, config, tmp_path / "straight")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit(toy_method(), toy_feed, config, tmp_path / "crashed", reporter=stop_after(11, crash))
    resumed = toy_method()
    fit(resumed, toy_feed, config, tmp_path / "crashed", resume=True)

    # Rows of steps 9 to 11 were written twice, by the crashed run and by the resumed one; they must appear once.
    assert resumed.calls[0] == ("loss", 8)
    assert_same_state(straight, resumed)
    assert (tmp_path / "straight/metrics.csv").read_text() == (tmp_path / "crashed/metrics.csv").read_text()


def test_a_run_ends_with_the_signals_as_they_were(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    fit(toy_method(), toy_feed, fit_config(max_steps=1), tmp_path / "run")

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_equal_runs_have_equal_results_and_another_seed_has_not(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    methods = [toy_method() for _ in range(3)]
    for number, (method, seed) in enumerate(zip(methods, (0, 0, 1), strict=True)):
        torch.manual_seed(number)  # the caller's generator must not matter
        fit(method, toy_feed, fit_config(seed=seed), tmp_path / str(number))

    assert_same_state(methods[0], methods[1])
    assert not torch.equal(methods[0].encoder.weight, methods[2].encoder.weight)


def test_the_checkpoint_holds_tensors_and_primitives(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    fit(toy_method(), toy_feed, fit_config(), tmp_path / "run")

    content = torch.load(tmp_path / "run/last.ckpt", weights_only=True)

    assert set(kinds(content)) <= {torch.Tensor, int, float, str, bool, type(None)}
    assert content["global_step"] == 12


def test_the_folder_holds_what_it_should(toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path) -> None:
    result = fit(toy_method(), toy_feed, fit_config(log_every_steps=4), tmp_path / "run")

    names = {path.name for path in (tmp_path / "run").iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert names - events == {"config.json", "encoder.safetensors", "metrics.csv", "curves.png", "last.ckpt"}
    assert len(events) == 1
    rows = read_metrics(tmp_path / "run/metrics.csv")
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert result.metrics["loss"] == rows[-1]["loss"]


def test_nothing_is_said_unless_a_reporter_listens(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(toy_method(), toy_feed, fit_config(max_steps=2), tmp_path / "run")

    assert capfd.readouterr() == ("", "")


def test_the_time_is_estimated_before_the_first_step(
    toy_method: Build, toy_feed: Feed, fit_config: Config, stop_after: Callable[..., Any], tmp_path: Path
) -> None:
    reporter = stop_after(99, crash)

    fit(toy_method(), toy_feed, fit_config(max_steps=3), tmp_path / "run", reporter=reporter)

    assert reporter.lines == ["training: 3 steps on cpu, about 1 s"]


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    method = toy_method()
    method.loss_scale = float("nan")

    with pytest.raises(DivergenceError, match=r"the loss of step 1 is nan.*--learning-rate"):
        fit(method, toy_feed, fit_config(checkpoint_every_steps=1), tmp_path / "run")

    assert not (tmp_path / "run/last.ckpt").exists()
    assert not (tmp_path / "run/encoder.safetensors").exists()


def test_a_lost_run_is_not_saved_between_two_looks_at_its_loss(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    method = toy_method()
    method.loss_scale = float("inf")

    with pytest.raises(DivergenceError, match="the loss of step 4 is"):
        fit(method, toy_feed, fit_config(checkpoint_every_steps=1, log_every_steps=4), tmp_path / "run")

    assert not (tmp_path / "run/last.ckpt").exists()


class Collapsing(Method):
    """Gives every item the same projection."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(6, 4)

    def loss(self, batch: torch.Tensor, progress: Progress) -> LossOutput:
        projections = self.encoder(torch.ones_like(batch))
        return LossOutput(projections.square().mean(), projections.detach())


def test_a_collapsed_run_stops_early_and_says_why(toy_feed: Feed, fit_config: Config, tmp_path: Path) -> None:
    with pytest.raises(CollapseError, match=r"collapsed at step 14: .* 0\.0000 .*--collapse-threshold \(0\.02\)"):
        fit(Collapsing(), toy_feed, fit_config(max_steps=100), tmp_path / "run")

    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == 14


def test_a_threshold_of_0_never_stops(toy_feed: Feed, fit_config: Config, tmp_path: Path) -> None:
    fit(Collapsing(), toy_feed, fit_config(max_steps=20, collapse_threshold=0), tmp_path / "run")


class Frozen(torch.nn.Dropout):
    """A part that training mode does not reach."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class Counting:
    """An evaluator that reports in which mode it finds the method."""

    def __init__(self) -> None:
        self.modes: list[tuple[bool, bool]] = []

    def measure(self, method: Method) -> Mapping[str, float]:
        self.modes.append((method.training, torch.is_grad_enabled()))
        torch.rand(5)  # must not move anything that training draws from
        return {"held_out": float(len(self.modes))}


@pytest.mark.parametrize("frozen", [False, True])
def test_measuring_held_out_data_changes_nothing(
    frozen: bool, toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    plain, measured = toy_method(), toy_method()
    if frozen:
        for method in (plain, measured):
            method.dropout = Frozen(0.5).eval()
    evaluator = Counting()
    config = fit_config(max_steps=12, evaluate_every_steps=5)

    fit(plain, toy_feed, config, tmp_path / "plain")
    fit(measured, toy_feed, config, tmp_path / "measured", evaluator=evaluator)

    assert evaluator.modes == [(False, False)] * 3
    rows = read_metrics(tmp_path / "measured/metrics.csv")
    assert {row["step"]: row["held_out"] for row in rows if "held_out" in row} == {5: 1.0, 10: 2.0, 12: 3.0}
    assert measured.dropout.training is not frozen
    assert_same_state(plain, measured)


def test_the_rate_follows_the_schedule(toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path) -> None:
    config = fit_config(max_steps=4)
    optimiser = type(config.optimiser)(learning_rate=0.8, warmup_steps=3)

    fit(
        toy_method(),
        toy_feed,
        type(config)(optimiser=optimiser, loop=config.loop, device=config.device),
        tmp_path / "r",
    )

    rates = [row["learning_rate"] for row in read_metrics(tmp_path / "r/metrics.csv")]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_the_gradient_is_clipped_to_its_norm(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    method = toy_method()
    before = [parameter.detach().clone() for parameter in method.parameters()]
    config = fit_config(max_steps=1)
    optimiser = type(config.optimiser)(
        optimiser=config.optimiser.optimiser, learning_rate=1.0, momentum=0.0, gradient_clip=1e-3
    )

    fit(method, toy_feed, type(config)(optimiser=optimiser, loop=config.loop, device=config.device), tmp_path / "run")

    moved = [(after.detach() - old).flatten() for after, old in zip(method.parameters(), before, strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_trains_to_a_finite_loss(
    toy_method: Build, toy_feed: Feed, fit_config: Config, tmp_path: Path
) -> None:
    config = fit_config(max_steps=3)
    device = DeviceConfig(accelerator=config.device.accelerator, threads=1, precision=Precision.BF16)
    exact, rounded = toy_method(), toy_method()

    fit(exact, toy_feed, config, tmp_path / "fp32")
    fit(rounded, toy_feed, type(config)(optimiser=config.optimiser, loop=config.loop, device=device), tmp_path / "bf16")

    assert rounded.encoder.weight.dtype == torch.float32
    assert torch.allclose(exact.encoder.weight, rounded.encoder.weight, atol=2e-2)
    assert not torch.equal(exact.encoder.weight, rounded.encoder.weight)


def assert_same_state(left: torch.nn.Module, right: torch.nn.Module) -> None:
    expected, found = left.state_dict(), right.state_dict()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def kinds(content: Any) -> list[type]:
    if isinstance(content, Mapping):
        return [kind for key, value in content.items() for kind in (type(key), *kinds(value))]
    if isinstance(content, (list, tuple)):
        return [kind for value in content for kind in kinds(value)]
    return [torch.Tensor] if isinstance(content, torch.Tensor) else [type(content)]
