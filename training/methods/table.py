"""The methods by name: read by the command's help and by the documentation, so it loads no torch.

A method outside this package registers under the entry point group `diptych.methods`: the entry point's name is the
method's, and it loads a `MethodEntry` from a module without torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Literal, cast

from training.methods.recipes import Recipe, RecipeName, Recipes

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
    summary: str
    """One line of the help."""

    def load(self) -> Any:
        """Imports the method, and torch with it.

        Returns:
            The class, called as `(encoder or towers, config, context=MethodContext)`.
        """
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def load_config(self) -> type[Any]:
        """Imports the method for its configuration.

        Returns:
            The frozen dataclass; without arguments it holds the paper's settings.
        """
        return cast(type[Any], self.load().config_type)

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
        recipes: Recipes = self.load().recipes
        if name is not None and name not in recipes:
            offered = ", ".join(recipes) or "none of its own"
            raise ValueError(f"--recipe {name}: {self.name} has {offered}; choose one of them or leave it out")
        return recipes.get(name or (RecipeName.ADAPT if pretrained else RecipeName.SCRATCH), Recipe())


def _entry(
    modality: Literal["text", "image"], name: str, family: str, kind: str, paper: str, summary: str
) -> MethodEntry:
    target = f"training.methods.{modality}.{name.replace('-', '_')}:{kind}"
    return MethodEntry(name=name, family=family, modality=modality, paper=paper, target=target, summary=summary)


_TEXT = partial(_entry, "text")
_IMAGE = partial(_entry, "image")

# fmt: off
_ROWS = (
    _TEXT("quick-thoughts", "adjacency", "QuickThoughts", "Logeswaran & Lee 2018, arXiv:1803.02893", "tell a sentence's neighbours from the other sentences of its block"),
    _IMAGE("simclr", "contrast", "SimCLR", "Chen et al. 2020, arXiv:2002.05709", "find the other view of an image among all views of the batch"),
    _IMAGE("mean-shift", "neighbours", "MeanShift", "Koohpayegani et al. 2021, arXiv:2105.07269", "move an image to the mean of its other view's nearest neighbours"),
)
# fmt: on

METHODS: Mapping[str, MethodEntry] = {entry.name: entry for entry in _ROWS}
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
