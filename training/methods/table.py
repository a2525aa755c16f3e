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
    _TEXT("simcse", "contrast", "SimCSE", "Gao et al. 2021, arXiv:2104.08821", "find a sentence read again with other activations dropped among all of the batch"),
    _TEXT("tsdae", "generative", "TSDAE", "Wang et al. 2021, arXiv:2104.06979", "write a sentence again from the vector of what was left of it"),
    _IMAGE("simclr", "contrast", "SimCLR", "Chen et al. 2020, arXiv:2002.05709", "find the other view of an image among all views of the batch"),
    _IMAGE("moco", "contrast", "MoCo", "He et al. 2019, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297", "find an image's key among a queue of keys that a slowly moving encoder made"),
    _IMAGE("nnclr", "contrast", "NNCLR", "Dwibedi et al. 2021, arXiv:2104.14548", "find the other view of an image by this one's nearest neighbour"),
    _IMAGE("cpc", "contrast", "CPC", "van den Oord et al. 2018, arXiv:1807.03748", "foretell an image's lower patches from its upper ones"),
    _IMAGE("mean-shift", "neighbours", "MeanShift", "Koohpayegani et al. 2021, arXiv:2105.07269", "move an image to the mean of its other view's nearest neighbours"),
    _IMAGE("cmsf-self", "neighbours", "CMSFSelf", "Navaneet et al. 2022, arXiv:2112.04607", "mean shift, half of it to neighbours that an earlier augmentation agrees on"),
    _IMAGE("byol", "bootstrap", "BYOL", "Grill et al. 2020, arXiv:2006.07733", "predict what a slow average of the network makes of the other view"),
    _IMAGE("simsiam", "bootstrap", "SimSiam", "Chen & He 2021, arXiv:2011.10566", "predict the other view's projection, held constant"),
    _IMAGE("dino", "bootstrap", "DINO", "Caron et al. 2021, arXiv:2104.14294", "follow the distribution over prototypes that a slow average gives another view"),
    _IMAGE("barlow-twins", "redundancy", "BarlowTwins", "Zbontar et al. 2021, arXiv:2103.03230", "make each value agree between two views and with no other value"),
    _IMAGE("vicreg", "redundancy", "VICReg", "Bardes et al. 2022, arXiv:2105.04906", "draw two views together while every value varies and none repeats another"),
    _IMAGE("swav", "clusters", "SwAV", "Caron et al. 2020, arXiv:2006.09882", "predict an image's cluster in one view from its other views"),
    _IMAGE("seer", "clusters", "SEER", "Goyal et al. 2021, arXiv:2103.01988", "SwAV in one pass over more images than fit into memory"),
    _IMAGE("cmsf-semi", "semi-supervised", "CMSFSemi", "Navaneet et al. 2022, arXiv:2112.04607", "mean shift within classes, guessed where an image has no label"),
    _IMAGE("paws", "semi-supervised", "PAWS", "Assran et al. 2021, arXiv:2104.13963", "give two views of an image the same class by the few labelled images nearest to them"),
    _IMAGE("self-training", "semi-supervised", "SelfTraining", "Xie et al. 2020, arXiv:1911.04252", "name a changed image's class as a teacher did that was trained on the labelled ones"),
    _IMAGE("rotation", "pretext", "Rotation", "Gidaris et al. 2018, arXiv:1803.07728", "say by how many quarter turns an image is turned"),
    _IMAGE("jigsaw", "pretext", "Jigsaw", "Noroozi & Favaro 2016, arXiv:1603.09246", "say how an image's patches were shuffled"),
    _IMAGE("patch-location", "pretext", "PatchLocation", "Doersch et al. 2015, arXiv:1505.05192", "say on which side of the centre a patch of an image lies"),
    _IMAGE("inpainting", "generative", "Inpainting", "Pathak et al. 2016, arXiv:1604.07379", "fill in what is hidden of an image"),
    _IMAGE("autoencoder", "generative", "Autoencoder", "Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647; Vincent et al. 2008, doi:10.1145/1390156.1390294", "rebuild an image from a few values, whole or from what noise left of it"),
    _IMAGE("cmsf-sup", "supervised", "CMSFSup", "Navaneet et al. 2022, arXiv:2112.04607", "mean shift to the nearest neighbours of an image's own class"),
    _IMAGE("supervised", "supervised", "Supervised", "He et al. 2016, arXiv:1512.03385", "name the class of an image"),
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
