from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.lock import FolderLock
from serving.errors import FailedPrecondition

HOLD = """
import sys
from pathlib import Path
from serving.collections.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_learns_the_folder_and_the_first_ones_pid(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        FolderLock(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.metadata["holder_pid"] == str(os.getpid())
    lock.release()


def test_a_released_folder_can_be_held_again(tmp_path: Path) -> None:
    FolderLock(tmp_path).release()
    again = FolderLock(tmp_path)
    again.release()
    again.release()


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FailedPrecondition, match=str(holder.pid)):
            FolderLock(tmp_path)
        holder.kill()
    FolderLock(tmp_path).release()


def test_a_second_server_on_a_data_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    first = CollectionCatalogue(tmp_path)
    with pytest.raises(FailedPrecondition, match="in use"):
        CollectionCatalogue(tmp_path)
    assert first.list() == []
    first.close()
    CollectionCatalogue(tmp_path).close()
