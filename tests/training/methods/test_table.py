from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from training.methods import table
from training.methods.base import Method
from training.methods.table import METHODS, MethodEntry, all_methods, find_method

OUTSIDE = MethodEntry(
    name="outside",
    family="contrast",
    modality="image",
    paper="-",
    target="training.methods.image.simclr:SimCLR",
    summary="-",
)
TAKEN = dataclasses.replace(OUTSIDE, name="simclr")


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_loads_a_method_and_its_configuration(name: str) -> None:
    entry = find_method(name)
    assert entry.name == name
    method, config = entry.load(), entry.load_config()
    assert isinstance(method, type)
    assert issubclass(method, Method)
    settings = config()
    assert dataclasses.is_dataclass(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, dataclasses.fields(settings)[0].name, None)


def test_an_unknown_method_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"no method 'byoll'; there are: .*mean-shift, .*simclr"):
        find_method("byoll")


def registered(monkeypatch: pytest.MonkeyPatch, name: str, attribute: str) -> None:
    point = EntryPoint(name=name, value=f"{__name__}:{attribute}", group=table.ENTRY_POINT_GROUP)
    monkeypatch.setattr(table, "entry_points", lambda group: [point] if group == table.ENTRY_POINT_GROUP else [])


def test_methods_of_other_distributions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, "outside", "OUTSIDE")
    assert all_methods()["outside"] == OUTSIDE
    assert set(METHODS) < set(all_methods())


@pytest.mark.parametrize(
    ("name", "attribute", "message"),
    [
        ("simclr", "TAKEN", "takes the name of another method"),
        ("other", "OUTSIDE", "must load a MethodEntry of that name"),
        ("pytest", "pytest", "must load a MethodEntry"),
    ],
)
def test_bad_registrations_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, attribute: str, message: str
) -> None:
    registered(monkeypatch, name, attribute)
    with pytest.raises(ValueError, match=message):
        all_methods()


def test_table_recipes_and_presets_load_no_torch() -> None:
    code = (
        "import sys, training.methods.table as t, training.methods.recipes, training.views.config\n"
        "t.all_methods()\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
