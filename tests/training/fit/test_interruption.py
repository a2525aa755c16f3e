from __future__ import annotations

import os
import signal
import threading

import pytest

from training.fit.interruption import InterruptWatch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_and_the_second_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with InterruptWatch() as watch:
        os.kill(os.getpid(), number)
        assert watch.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)

    assert signal.getsignal(number) is before


def test_it_takes_the_signals_back_from_who_took_them_meanwhile() -> None:
    with InterruptWatch() as watch:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        watch.install()
        os.kill(os.getpid(), signal.SIGTERM)

        assert watch.requested


def test_another_thread_leaves_the_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with InterruptWatch() as watch:
            watch.install()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == [before]
