from __future__ import annotations

import io

from rich.console import Console

from training.fit.rehearsal import describe_duration
from training.fit.reporting import TerminalReporter


def work(console: Console) -> None:
    with TerminalReporter(console) as reporter:
        reporter.note("training: [3] steps")
        reporter.start("training", total=3, done=1)
        reporter.advance(loss=0.25)
        reporter.advance()


def test_without_a_terminal_only_lines_are_written() -> None:
    stream = io.StringIO()

    work(Console(file=stream, force_terminal=False))

    assert stream.getvalue().strip() == "training: [3] steps"


def test_on_a_terminal_the_bar_moves_and_shows_the_figures() -> None:
    stream = io.StringIO()

    work(Console(file=stream, force_terminal=True, width=100, color_system=None))

    assert "3/3" in stream.getvalue()
    assert "loss 0.250" in stream.getvalue()


def test_durations_are_as_precise_as_an_estimate() -> None:
    described = [describe_duration(seconds) for seconds in (0.2, 41.3, 89, 91, 3000, 5401)]

    assert described == ["1 s", "41 s", "89 s", "2 min", "50 min", "1.5 h"]
