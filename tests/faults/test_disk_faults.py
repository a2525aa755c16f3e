"""A fault, or a power loss, at every operation on the disk: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from serving.collections import writer
from serving.collections.catalogue import CollectionCatalogue
from tests.faults.disk import Disk, Survival
from tests.faults.failure import Failure
from tests.faults.load import CONFIG, Load, check_found, read_state


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints every few writes, so that faults meet them too."""
    monkeypatch.setattr(writer, "_CHECKPOINT_PAGES", 8)


DATA = Path("server", "data")
"""On the disk; the server makes it."""


def count_operations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    folder.mkdir()
    disk = Disk(folder)
    with disk.mounted(monkeypatch):
        assert Load(folder / DATA, give_up=lambda: True).run()
    return disk.log


def test_the_load_meets_every_kind_of_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = count_operations(tmp_path / "data", monkeypatch)
    kinds = {(entry.split()[0], Path(entry).suffix or Path(entry).name) for entry in log}
    for kind in (
        ("write", ".sqlite"),
        ("write", ".sqlite-wal"),
        ("sync", ".sqlite"),
        ("sync", ".sqlite-wal"),
        ("sync", ".npy"),
        ("sync", ".json"),
        ("sync", ".faiss"),
        ("sync", "index"),
        ("truncate", ".sqlite-wal"),
        ("delete", ".sqlite-wal"),
    ):
        assert kind in kinds
    # Two bases, and the definition beside the record whenever it is made, changed or opened.
    assert sum(entry.startswith("rename") for entry in log) == 5


def check_fault(folder: Path, failure: Failure, at: int, lasting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure: the load ends well by repeating what failed, while the server goes on or at most starts again."""
    folder.mkdir()
    disk = Disk(folder, at=at, failure=failure, lasting=lasting)
    context = f"{failure} at {at}, lasting {lasting}"
    with disk.mounted(monkeypatch):
        load = Load(folder / DATA, give_up=lambda: False)
        assert load.run(), context
        catalogue = load.open_again()
        # What runs beside the load, such as checkpoints, makes its operations a few more or fewer each time: a failure
        # at one of the last may not have come yet, and is none of the load's.
        disk.mend()
        try:
            assert read_state(catalogue) == load.oracle.state, context
            check_found(catalogue, random.Random(at))
        finally:
            catalogue.close()


def check_power_loss(folder: Path, at: int, survivals: Iterable[Survival], monkeypatch: pytest.MonkeyPatch) -> None:
    """One power loss: what it leaves opens by itself, and holds all that was acknowledged."""
    (folder / "disk").mkdir(parents=True)
    disk = Disk(folder / "disk", at=at, failure=Failure.POWER)
    with disk.mounted(monkeypatch):
        load = Load(folder / "disk" / DATA, give_up=lambda: True)
        load.run()
        for survival in survivals:
            disk.restore(folder / survival, survival, random.Random(at))
    for survival in survivals:
        # Without the number where the load came to its end before it: what stood at the end is what survives.
        operation = dict(enumerate(disk.log, 1)).get(at, "the end")
        context = f"power loss at {at} ({operation}), {survival} survives, seed {at}"
        for _ in range(2):
            catalogue = CollectionCatalogue(folder / survival / DATA, CONFIG)
            try:
                assert not catalogue.damaged(), context
                assert read_state(catalogue) in list(load.oracle.possible()), context
                check_found(catalogue, random.Random(at))
            finally:
                catalogue.close()


def some(total: int, count: int) -> list[int]:
    """Returns numbers from 1 to `total`, spread evenly."""
    return sorted({1 + number * (total - 1) // (count - 1) for number in range(count)})


@pytest.mark.parametrize("failure", [Failure.IO, Failure.FULL])
def test_faults_here_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure) -> None:
    total = len(count_operations(tmp_path / "count", monkeypatch))
    for at in some(total, 8):
        check_fault(tmp_path / f"{at}", failure, at, 1 + at % 20, monkeypatch)


def test_power_losses_here_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = len(count_operations(tmp_path / "count", monkeypatch))
    for at in some(total, 10):
        check_power_loss(tmp_path / f"{at}", at, Survival, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [1, 25])
@pytest.mark.parametrize("failure", [Failure.IO, Failure.FULL])
def test_a_fault_at_every_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure, lasting: int
) -> None:
    total = len(count_operations(tmp_path / "count", monkeypatch))
    for at in range(1, total + 1):
        check_fault(tmp_path / f"{at}", failure, at, lasting, monkeypatch)


@pytest.mark.slow
def test_a_power_loss_at_every_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = len(count_operations(tmp_path / "count", monkeypatch))
    for at in range(1, total + 1):
        check_power_loss(tmp_path / f"{at}", at, Survival, monkeypatch)
