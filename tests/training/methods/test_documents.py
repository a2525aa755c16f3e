"""What the documents say of methods is so."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from tests.training.methods.pictures import SIZE_PX, learn_by_itself, small_encoder
from training.methods.base import Method, MethodContext
from training.methods.table import METHODS

ROOT = Path(__file__).parents[3]


def test_the_example_of_a_method_in_contributing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) < 75
    module = types.ModuleType("spread")
    monkeypatch.setitem(sys.modules, "spread", module)
    exec(compile(code, "spread.py", "exec", dont_inherit=True), module.__dict__)

    context = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
    method: Method = module.Spread(small_encoder(seed=0), module.SpreadConfig(), context=context)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3)
    first = learn_by_itself(method, optimiser, steps=range(1)).loss.item()
    last = learn_by_itself(method, optimiser, steps=range(1, 12)).loss.item()

    assert last < 0.9 * first


def test_the_readme_lists_every_method_with_its_paper() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in METHODS.values():
        assert f"| `{entry.name}` | {entry.family} | {entry.summary} | {entry.paper} |" in text, entry.name
