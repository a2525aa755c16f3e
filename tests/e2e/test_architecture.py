"""What a static import contract cannot see: which modules a process really ends up with."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print("\\n".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""

HELP = """
import sys
from diptych.cli.main import main
assert main({arguments!r}) == 0
print("MODULES", " ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("package", ["serving", "models.bundle", "diptych.client"])
def test_no_torch_where_none_is_needed(package: str) -> None:
    loaded = set(run(IMPORT_ALL.format(package=package)).split())
    assert package.split(".")[0] in loaded
    assert not loaded & {"torch", "torchvision", "transformers", "pytorch_lightning", "timm", "training"}


def test_the_client_loads_no_other_room() -> None:
    loaded = set(run(IMPORT_ALL.format(package="diptych.client")).split())
    assert not loaded & {"models", "serving", "training"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_the_overview_is_instant(arguments: list[str]) -> None:
    loaded = set(run(HELP.format(arguments=arguments)).split("MODULES", 1)[1].split())
    assert "diptych" in loaded
    assert not loaded & {"torch", "numpy", "grpc", "tyro", "models", "serving", "training"}
