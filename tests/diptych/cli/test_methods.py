"""`diptych methods` as a user types it."""

from __future__ import annotations

import pytest

from diptych.cli.main import main
from diptych.cli.train_flags import methods_help
from training.methods.table import METHODS


def test_every_method_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = {line.split()[0] for line in lines if line.strip()}
    assert set(METHODS) <= first_words


@pytest.mark.parametrize("name", METHODS)
def test_one_is_shown_with_its_settings_and_recipes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: {METHODS[name].summary}\n")
    assert METHODS[name].paper in out
    assert all(f"  {recipe}: batches of " in out for recipe in ("scratch", "adapt", "paper"))


def test_settings_are_those_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "mean-shift"]) == 0
    out = capsys.readouterr().out
    assert "bank-size         1024000" in out
    assert "bank-size=None, output-norm=True" in out
    assert main(["methods", "paws"]) == 0
    assert "uses the labels of some images" in capsys.readouterr().out
    assert main(["methods", "magic"]) == 1
    assert "no method 'magic'" in capsys.readouterr().err


def test_the_help_of_training_names_the_methods_by_family() -> None:
    text = methods_help("image")
    assert "contrast: simclr, moco, nnclr, cpc; neighbours: mean-shift, cmsf-self" in text
    assert "quick-thoughts" not in text
    assert methods_help("text").startswith("How it learns. adjacency: quick-thoughts; contrast: simcse; ")
