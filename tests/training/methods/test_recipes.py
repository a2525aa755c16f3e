"""Recipes: every method has one for each start, and what they set is there to be set."""

from __future__ import annotations

import pytest

from training.config import OptimiserName
from training.fit.method_settings import method_config
from training.fit.schedule import check_schedule
from training.methods.recipes import Recipe, RecipeName
from training.methods.table import METHODS, MethodEntry


@pytest.mark.parametrize("entry", METHODS.values(), ids=METHODS)
def test_every_method_has_every_recipe_and_its_settings_exist(entry: MethodEntry) -> None:
    for name in RecipeName:
        recipe = entry.recipe(name)
        method_config(entry, recipe.settings)
        check_schedule(recipe.optimiser, 1)


@pytest.mark.parametrize("entry", METHODS.values(), ids=METHODS)
def test_the_start_chooses_where_nothing_is_asked_for(entry: MethodEntry) -> None:
    assert entry.recipe() == entry.recipe(RecipeName.SCRATCH)
    assert entry.recipe(pretrained=True) == entry.recipe(RecipeName.ADAPT)
    assert entry.recipe(RecipeName.PAPER, pretrained=True) == entry.recipe(RecipeName.PAPER)
    assert entry.recipe(pretrained=True).optimiser.learning_rate < entry.recipe().optimiser.learning_rate


def test_the_papers_recipes_are_the_papers() -> None:
    quick_thoughts, mean_shift = (METHODS[name].recipe(RecipeName.PAPER) for name in ("quick-thoughts", "mean-shift"))

    assert (quick_thoughts.batch_size, quick_thoughts.text_encoder.towers, quick_thoughts.settings) == (400, 2, {})
    assert (quick_thoughts.optimiser.learning_rate, quick_thoughts.optimiser.gradient_clip) == (5e-4, 5)
    assert mean_shift.optimiser.optimiser is OptimiserName.SGD
    assert (mean_shift.optimiser.learning_rate, mean_shift.optimiser.weight_decay) == (0.05, 1e-4)


def test_a_method_without_recipes_gets_a_plain_one_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = METHODS["simclr"]
    monkeypatch.setattr(bare.load(), "recipes", {})

    assert bare.recipe() == bare.recipe(pretrained=True) == Recipe()
    with pytest.raises(ValueError, match="--recipe paper: simclr has none of its own"):
        bare.recipe(RecipeName.PAPER)
