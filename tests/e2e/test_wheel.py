"""The built wheel, in clean environments, one extra at a time, in a folder that holds a user's own `models.py`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.e2e.command_server import command_server
from tests.e2e.environments import ROOT, build_wheel, make_environment, run

pytestmark = pytest.mark.slow

PINS = ("--constraints", ROOT / "requirements" / "all.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("models", "training", "serving"):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('the user has a {name}.py of their own')\n")
    return folder


def test_the_wheel_ships_the_four_packages_and_no_tests(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"diptych", "models", "serving", "training"}


def test_the_base_has_the_client_and_the_command(wheel: Path, users_folder: Path, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "env", wheel, options=PINS)
    assert "diptych 0." in run(programs / "diptych", "--version", cwd=users_folder).stdout
    run(programs / "diptych", "search", "--help", cwd=users_folder)
    run(programs / "python", "-I", "-c", "from diptych import AsyncClient, Client", cwd=users_folder)
    (users_folder / "notes").mkdir()
    (users_folder / "notes" / "one.txt").write_text("A sentence. Another one.")
    for verb, extra in ((("train", "text", "notes", "run"), "training"), (("serve", "--data", "data"), "serving")):
        refused = run(programs / "diptych", *verb, cwd=users_folder, check=False)
        assert refused.returncode == 1
        assert f"pip install 'diptych[{extra}]'" in refused.stderr
    # Another process must be there to answer; nothing is, and the client says so in one sentence.
    alone = run(programs / "diptych", "collections", "list", "--server", "127.0.0.1:1", cwd=users_folder, check=False)
    assert alone.returncode == 1
    assert alone.stderr.startswith("error: ")
    assert "Traceback" not in alone.stderr


def test_serving_serves(wheel: Path, users_folder: Path, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "env", f"diptych[serving] @ {wheel.as_uri()}", options=PINS)
    (users_folder / "bundles").mkdir()
    missing = run(programs / "python", "-I", "-c", "import torch", cwd=users_folder, check=False)
    assert missing.returncode != 0
    with command_server([programs / "diptych"], folder=users_folder) as address:
        create = ("collections", "create", "notes", "--dimension", "4", "--server", address)
        run(programs / "diptych", *create, cwd=users_folder)
        listed = run(programs / "diptych", "collections", "list", "--server", address, cwd=users_folder)
        assert "notes" in listed.stdout


def test_training_trains_exports_and_embeds(wheel: Path, users_folder: Path, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "env", f"diptych[training] @ {wheel.as_uri()}", options=PINS)
    notes = users_folder / "notes"
    notes.mkdir()
    for number in range(40):
        sentences = " ".join(f"This is sentence {line} of note {number}." for line in range(8))
        (notes / f"{number}.txt").write_text(sentences)
    command = programs / "diptych"
    run(command, "train", "text", "notes", "run", "--max-steps", "3", "--batch-size", "32", cwd=users_folder)
    run(command, "export", "run", "bundle", cwd=users_folder)
    run(command, "verify", "bundle", cwd=users_folder)
    run(command, "embed", "--bundle", "bundle", notes / "1.txt", "--out", "vectors.npy", cwd=users_folder)
    shape = run(
        programs / "python", "-I", "-c", "import numpy; print(numpy.load('vectors.npy').ndim)", cwd=users_folder
    )
    assert shape.stdout.strip() == "2"
