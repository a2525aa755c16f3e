"""`diptych methods`: the ways to learn, and what each may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from training.methods.table import MethodEntry, all_methods, find_method

__all__ = ["Methods"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Methods:
    """Lists the methods by family; with a name, shows its paper, its settings and its recipes."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")] = None
    """Which; all of them where not given."""

    def run(self) -> int:
        """Prints the list, or one method."""
        if self.name is None:
            _print_list()
        else:
            _print_method(find_method(self.name))
        return 0


def _print_list() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("method", "learns from", "family", "what it does"):
        table.add_column(column, no_wrap=column == "method")
    for entry in all_methods().values():
        table.add_row(entry.name, f"{entry.modality}s", entry.family, entry.summary)
    Console().print(table)
    print("\n`diptych methods METHOD` shows its paper, settings and recipes.")


def _print_method(entry: MethodEntry) -> None:
    from training.config_json import encode
    from training.methods.recipes import RecipeName

    print(f"{entry.name}: {entry.summary}")
    print(f"learns from {entry.modality}s; family {entry.family}; {entry.paper}")
    needs = entry.load().needs
    if needs.labels:
        print("uses labels: of every image" if needs.every_label else "uses the labels of some images")
    print("\nsettings (--set NAME=VALUE), as in the paper where no recipe says otherwise:")
    defaults = encode(entry.load_config()())
    width = max(len(name) for name in defaults)
    for name, value in defaults.items():
        print(f"  {name.replace('_', '-'):<{width}}  {value}")
    print("\nrecipes (--recipe NAME):")
    for name in RecipeName:
        recipe = entry.recipe(name)
        optimiser = recipe.optimiser
        print(
            f"  {name}: batches of {recipe.batch_size}, {optimiser.optimiser} at {optimiser.learning_rate:g}, "
            f"weight decay {optimiser.weight_decay:g}"
        )
        changed = ", ".join(f"{key.replace('_', '-')}={value}" for key, value in recipe.settings.items())
        print(f"    {changed or 'the settings above'}")
