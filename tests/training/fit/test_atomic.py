from __future__ import annotations

from pathlib import Path

import pytest

from training.fit.atomic import publish, publish_text


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    publish_text(file, "whole")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(file, half)

    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_content_stands_until_the_new_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    publish_text(file, "old")
    seen: list[str] = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append(file.read_text())

    publish(file, write)

    assert (seen, file.read_text()) == (["old"], "new")
