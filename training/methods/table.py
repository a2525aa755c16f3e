"""The methods by name: read by the command's help and by the documentation, so it loads no torch.

A method outside this package registers under the entry point group `diptych.methods`: the entry point's name is the
method's, and it loads a `MethodEntry` from a module without torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal, cast

from training.methods.recipes import MEAN_SHIFT, QUICK_THOUGHTS, SIMCLR, Recipe, RecipeName, Recipes

__all__ = ["ENTRY_POINT_GROUP", "METHODS", "MethodEntry", "all_methods", "find_method"]

ENTRY_POINT_GROUP = "diptych.methods"
"""Where other distributions name their methods."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodEntry:
    """One line of the table."""

    name: str
    """What a user types."""
    family: str
    """What it learns from: adjacency, contrast, neighbours, ..."""
    modality: Literal["text", "image"]
    """What its encoder reads."""
    paper: str
    """Authors, year and arXiv number."""
    target: str
    """`module:Class` of the `Method`."""
    config: str
    """`module:Class` of its configuration, which loads no torch."""
    summary: str
    """One line of the help."""
    recipes: Recipes = field(default_factory=dict)
    """What its runs are told where the user says nothing."""

    def load(self) -> Callable[..., Any]:
        """Imports the method.

        Returns:
            The class, called as `(encoder or towers, config, context=MethodContext)`.
        """
        return cast(Callable[..., Any], _load(self.target))

    def load_config(self) -> type[Any]:
        """Imports the configuration, without torch.

        Returns:
            The frozen dataclass; without arguments it holds the paper's settings.
        """
        return cast(type[Any], _load(self.config))

    def recipe(self, name: RecipeName | None = None, *, pretrained: bool = False) -> Recipe:
        """Returns what a run is told where the user says nothing.

        Args:
            name: The recipe asked for; None: the one that suits the start.
            pretrained: Whether the run starts from trained weights.

        Returns:
            The method's recipe, or a plain one where it brings none.

        Raises:
            ValueError: The method has no recipe of the name asked for.
        """
        if name is not None and name not in self.recipes:
            offered = ", ".join(self.recipes) or "none of its own"
            raise ValueError(f"--recipe {name}: {self.name} has {offered}; choose one of them or leave it out")
        return self.recipes.get(name or (RecipeName.ADAPT if pretrained else RecipeName.SCRATCH), Recipe())


def _entries(*entries: MethodEntry) -> dict[str, MethodEntry]:
    return {entry.name: entry for entry in entries}


METHODS: Mapping[str, MethodEntry] = _entries(
    MethodEntry(
        name="quick-thoughts",
        family="adjacency",
        modality="text",
        paper="Logeswaran & Lee 2018, arXiv:1803.02893",
        target="training.methods.quick_thoughts:QuickThoughts",
        config="training.methods.configs:QuickThoughtsConfig",
        summary="tell a sentence's neighbours from the other sentences of its block",
        recipes=QUICK_THOUGHTS,
    ),
    MethodEntry(
        name="simclr",
        family="contrast",
        modality="image",
        paper="Chen et al. 2020, arXiv:2002.05709",
        target="training.methods.simclr:SimCLR",
        config="training.methods.configs:SimCLRConfig",
        summary="find the other view of an image among all views of the batch",
        recipes=SIMCLR,
    ),
    MethodEntry(
        name="mean-shift",
        family="neighbours",
        modality="image",
        paper="Koohpayegani et al. 2021, arXiv:2105.07269",
        target="training.methods.mean_shift:MeanShift",
        config="training.methods.configs:MeanShiftConfig",
        summary="move an image to the mean of its other view's nearest neighbours",
        recipes=MEAN_SHIFT,
    ),
)
"""The methods of this package."""


def all_methods() -> dict[str, MethodEntry]:
    """Returns this package's methods and those that other installed distributions register.

    Returns:
        Entries by name; a name of this package cannot be taken over.

    Raises:
        ValueError: A registered entry is no `MethodEntry`, or takes a name that is taken.
    """
    found = dict(METHODS)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        entry = point.load()
        if not isinstance(entry, MethodEntry) or entry.name != point.name:
            raise ValueError(f"the entry point '{point.name}' ({point.value}) must load a MethodEntry of that name")
        if entry.name in found:
            raise ValueError(f"the entry point '{point.name}' ({point.value}) takes the name of another method")
        found[entry.name] = entry
    return found


def find_method(name: str) -> MethodEntry:
    """Finds a method by its name.

    Args:
        name: As a user types it.

    Returns:
        Its entry.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    methods = all_methods()
    if name not in methods:
        raise ValueError(f"no method '{name}'; there are: {', '.join(sorted(methods))}")
    return methods[name]


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
