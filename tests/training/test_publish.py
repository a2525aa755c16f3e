"""What is published is whole, and what a killed process left is cleared away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from training.publish import (
    publish_file,
    publish_folder,
    publish_json,
    publish_text,
    require_free,
    staging_folder,
)


def test_a_folder_appears_only_when_published(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "pack"
    with staging_folder(destination) as staging:
        (staging / "file").write_text("x")
        assert not destination.exists()
        publish_folder(staging, destination)
    assert (destination / "file").read_text() == "x"
    assert [path.name for path in destination.parent.iterdir()] == ["pack"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging_folder(tmp_path / "pack") as staging:
            (staging / "file").write_text("x")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    destination = tmp_path / "pack"
    destination.mkdir()
    require_free(destination)
    (destination / "mine").write_text("keep")
    with pytest.raises(ValueError, match="exists already; remove it"), staging_folder(destination) as staging:
        publish_folder(staging, destination)
    assert (destination / "mine").read_text() == "keep"


def test_the_published_folder_has_the_users_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        with staging_folder(tmp_path / "pack") as staging:
            publish_folder(staging, tmp_path / "pack")
    finally:
        os.umask(mask)
    assert (tmp_path / "pack").stat().st_mode & 0o777 == 0o755


def test_the_leavings_of_a_killed_process_are_removed_and_those_of_a_living_one_kept(tmp_path: Path) -> None:
    destination = tmp_path / "pack"
    dead, young, foreign = (tmp_path / name for name in (".pack.a.partial", ".pack.b.partial", ".other.c.partial"))
    for folder in (dead, young, foreign):
        folder.mkdir()
    long_ago = time.time() - 3600
    os.utime(dead, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    with staging_folder(destination) as living:
        os.utime(living, (long_ago, long_ago))
        with staging_folder(destination):
            assert living.exists()
    assert {path.name for path in tmp_path.iterdir()} == {young.name, foreign.name}


def test_json_replaces_an_older_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    publish_json(file, {"value": "old and much longer"})
    publish_json(file, {"value": "né"})
    assert file.read_text(encoding="utf-8") == '{\n "value": "né"\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    publish_text(file, "whole")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_file(file, half)

    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_content_stands_until_the_new_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    publish_text(file, "old")
    seen: list[str] = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append(file.read_text())

    publish_file(file, write)

    assert (seen, file.read_text()) == (["old"], "new")
