"""The settings study: one method with every combination of some settings, at equal training cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import product
from typing import Any

from training.config import OptimiserConfig
from training.config_json import decode, encode
from training.fit.method_settings import parse_settings
from training.methods.recipes import Recipe
from training.study.cell import CellSpecification
from training.study.config import SettingsStudyConfig
from training.study.specify import require_known_settings, specify_cell, study_method

__all__ = ["plan_settings"]


def plan_settings(config: SettingsStudyConfig) -> list[CellSpecification]:
    """Lists the cells: every combination of the grid's values, seed by seed.

    Args:
        config: What is studied.

    Returns:
        One specification a combination and seed, named after what is different.

    Raises:
        ValueError: The grid is empty or not readable, or the method has no such setting.
    """
    entry = study_method(config, config.method)
    recipe = entry.recipe(config.recipe, pretrained=config.init is not None)
    axes = [_axis(word) for word in config.grid]
    if not axes:
        raise ValueError("--grid needs at least one NAME=VALUE,VALUE, such as learning-rate=1e-3,2e-3")
    require_known_settings(config, [entry])
    found = []
    for seed in config.seeds:
        for words in product(*axes):
            tried = _tried(recipe, parse_settings(words))
            found.append(specify_cell(config, entry, name=",".join(words), seed=seed, labels=config.labels, **tried))
    return found


def _axis(word: str) -> list[str]:
    """Takes `name=1,2` apart into `name=1` and `name=2`."""
    name, equals, values = word.partition("=")
    if not name or not equals or not all(values.split(",")):
        raise ValueError(f"--grid {word}: write NAME=VALUE,VALUE, such as learning-rate=1e-3,2e-3")
    return [f"{name}={value}" for value in values.split(",")]


def _tried(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Parts what is tried into the recipe's, which are the optimiser's fields and the batch size, and the method's."""
    of_optimiser = {field.name for field in fields(OptimiserConfig)}
    optimiser = encode(recipe.optimiser) | {name: value for name, value in settings.items() if name in of_optimiser}
    changed = replace(
        recipe,
        batch_size=int(settings.get("batch_size", recipe.batch_size)),
        optimiser=decode(OptimiserConfig, optimiser),
    )
    own = {name: value for name, value in settings.items() if name not in of_optimiser | {"batch_size"}}
    return {"recipe": changed, "settings": own}
