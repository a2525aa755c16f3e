"""What training may hold still: an encoder's layers in order, and their freezing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

from torch import nn

__all__ = ["Layer", "LayeredEncoder"]


class Layer(NamedTuple):
    """Some parameters that are frozen together."""

    name: str
    """What a person calls it."""
    prefixes: tuple[str, ...]
    """Names of the modules and parameters in it, as `named_modules` and `named_parameters` give them."""

    def holds(self, name: str) -> bool:
        """Returns whether a module or parameter of that name is in the layer."""
        return any(name == prefix or name.startswith(f"{prefix}.") for prefix in self.prefixes)


class LayeredEncoder(nn.Module, ABC):
    """An encoder that lists its layers from input to output and can freeze the first of them."""

    width: int
    """Width of the vector it gives."""
    _frozen: tuple[Layer, ...] = ()

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """Returns its layers from input to output; each parameter is in exactly one."""

    def backbone_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Returns the named parameters that are to be trained: all but the frozen layers'."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    def freeze(self, count: int) -> Self:
        """Freezes the first layers: no gradient, and BatchNorm and dropout as in evaluation.

        Args:
            count: How many of `layers()`; 0 thaws all, and -1 freezes all.

        Returns:
            The encoder itself.

        Raises:
            ValueError: The encoder has fewer layers than `count`.
        """
        layers = self.layers()
        if not -1 <= count <= len(layers):
            names = ", ".join(layer.name for layer in layers)
            raise ValueError(f"cannot freeze {count} layers: the encoder has {len(layers)} ({names})")
        self._frozen = tuple(layers) if count == -1 else tuple(layers[:count])
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not self._is_frozen(name))
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets training mode on all layers but the frozen ones, whose running statistics stay as they are.

        Args:
            mode: Training or evaluation.

        Returns:
            The encoder itself.
        """
        super().train(mode)
        for name, module in self.named_modules():
            if self._is_frozen(name):
                module.train(False)
        return self

    def _is_frozen(self, name: str) -> bool:
        return any(layer.holds(name) for layer in self._frozen)
