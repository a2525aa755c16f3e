from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.run_folder import RunFolder, load_run

RECORD: dict[str, Any] = {
    "schema_version": 1,
    "modality": None,
    "run": {"out": "a", "batch_size": 4, "fit": {"loop": {"seed": 0, "checkpoint_every_steps": 5}}},
    "data": {"fingerprint": "f1"},
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin()
    folder.write_config(RECORD)
    return folder


def changed(**fields: Any) -> dict[str, Any]:
    return {**RECORD, "run": {**RECORD["run"], **fields}}


def test_a_new_or_empty_folder_is_begun(tmp_path: Path) -> None:
    RunFolder(tmp_path / "deep/new").begin()
    RunFolder(tmp_path / "deep/new").begin()

    assert (tmp_path / "deep/new").is_dir()


def test_a_finished_run_is_not_overwritten(run: RunFolder) -> None:
    run.encoder.write_bytes(b"weights")

    with pytest.raises(ValueError, match="finished run; choose another folder, or --overwrite"):
        run.begin()
    with pytest.raises(ValueError, match="is finished; --overwrite starts it anew"):
        run.begin(resume=True)
    assert run.encoder.read_bytes() == b"weights"


def test_an_unfinished_run_asks_what_is_meant(run: RunFolder) -> None:
    run.checkpoint.write_bytes(b"state")

    with pytest.raises(ValueError, match="unfinished run; --resume it, or --overwrite"):
        run.begin()
    run.begin(resume=True)
    assert run.checkpoint.read_bytes() == b"state"


def test_a_run_without_a_checkpoint_has_nothing_to_lose(run: RunFolder) -> None:
    run.begin()


def test_overwriting_removes_the_runs_files_and_no_others(run: RunFolder) -> None:
    for file in (
        run.encoder,
        run.checkpoint,
        run.metrics,
        run.curves,
        run.path / "events.out.tfevents.1",
        run.path / "notes.md",
    ):
        file.write_text("x")
    run.tokenizer.mkdir()

    run.begin(overwrite=True)

    assert {path.name for path in run.path.iterdir()} == {"config.json", "notes.md"}
    assert run.read_config()["run"] is None


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")

    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds files but no run"):
            RunFolder(tmp_path).begin(overwrite=overwrite)
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex").begin()


def test_a_model_directory_is_no_run_though_it_has_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds files but no run"):
            RunFolder(tmp_path).begin(overwrite=overwrite)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'


def test_data_in_the_runs_folder_are_not_cleared_away(run: RunFolder, tmp_path: Path) -> None:
    run.pack.mkdir()

    with pytest.raises(ValueError, match="lie in the run's own folder"):
        run.begin(source=run.pack, overwrite=True)
    with pytest.raises(ValueError, match="holds files but no run"):
        RunFolder(tmp_path).begin(source=tmp_path / "pack")  # whatever it is that lies there

    assert run.pack.is_dir()


def test_a_run_that_was_killed_while_packing_starts_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin()
    run.pack.mkdir()

    with pytest.raises(ValueError, match="stopped before its first step; start it without --resume"):
        run.begin(resume=True)
    run.begin()

    assert not run.pack.exists()


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        RunFolder(tmp_path / "new").begin(resume=True)
    with pytest.raises(ValueError, match="exclude each other"):
        RunFolder(tmp_path / "new").begin(resume=True, overwrite=True)


def test_a_changed_flag_is_named_with_both_values(run: RunFolder) -> None:
    with pytest.raises(ValueError, match=r"another batch_size \(4, not 8\).*same flags"):
        run.write_config(changed(batch_size=8), resume=True)
    with pytest.raises(ValueError, match=r"another fit\.loop\.seed \(0, not 3\)"):
        run.write_config(changed(fit={"loop": {"seed": 3, "checkpoint_every_steps": 5}}), resume=True)


def test_what_does_not_change_the_result_may_change(run: RunFolder) -> None:
    moved = changed(out="b", fit={"loop": {"seed": 0, "checkpoint_every_steps": 50}})

    run.write_config(moved, resume=True)

    assert run.read_config() == RECORD


def test_changed_data_are_noticed(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="data have changed"):
        run.write_config({**RECORD, "data": {"fingerprint": "f2"}}, resume=True)


def test_a_run_of_another_version_is_not_guessed_at(run: RunFolder) -> None:
    (run.path / "config.json").write_text(json.dumps({**RECORD, "schema_version": 9}))

    with pytest.raises(ValueError, match="schema version 9; this diptych reads 1"):
        run.read_config()


def test_an_unfinished_run_is_not_loaded(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({**RECORD, "modality": "text"})

    with pytest.raises(ValueError, match="not finished; --resume it"):
        load_run(tmp_path)
