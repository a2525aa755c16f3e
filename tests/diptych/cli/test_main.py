"""The command's table: every verb exists, explains itself without loading what it needs, and fails politely."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from diptych.cli import main as command

SHOW_HELP = """
import contextlib, sys
from diptych.cli.main import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:] + ["--help"])
print("MODULES", " ".join(sorted({name.split(".")[0] for name in sys.modules})))
"""


@dataclass(frozen=True, kw_only=True)
class Breaks:
    """Raises what it is told to."""

    kind: Literal["value", "defect", "module"]

    def run(self) -> int:
        if self.kind == "value":
            raise ValueError("size (7) must be even; give 6 or 8")
        if self.kind == "module":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        raise RuntimeError("a defect")


@pytest.mark.parametrize("words", sorted(command.VERBS))
def test_every_verb_explains_itself_and_loads_nothing_heavy(words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOW_HELP, *words.split()], check=True, capture_output=True, text=True
    )
    shown, modules = result.stdout.split("MODULES", 1)
    assert f"usage: diptych {words}" in shown
    assert not set(modules.split()) & {"torch", "numpy", "grpc", "onnxruntime", "faiss", "transformers"}


def test_the_overview_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(words in shown and verb.summary in shown for words, verb in command.VERBS.items())


def test_an_unknown_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fly"]) == 2
    assert "no verb 'fly'" in capsys.readouterr().err


def test_a_group_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["train"]) == 2
    shown = capsys.readouterr().out
    assert "train text" in shown
    assert "collections list" not in shown


def test_a_users_mistake_is_one_sentence_and_a_defect_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(command.VERBS, "break", command.Verb(f"{__name__}:Breaks", "raise what it is told"))
    assert command.main(["break", "--kind", "value"]) == 1
    assert capsys.readouterr().err == "error: size (7) must be even; give 6 or 8\n"
    with pytest.raises(RuntimeError, match="a defect"):
        command.main(["break", "--kind", "defect"])


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.VERBS, "serve", command.Verb(f"{__name__}:Breaks", "raise what it is told"))
    assert command.main(["serve", "--kind", "module"]) == 1
    assert "pip install 'diptych[serving]'" in capsys.readouterr().err
