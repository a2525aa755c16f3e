"""The optimiser of a method: its groups, each split into what decays and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.optim.lars import Lars
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from training.config import OptimiserConfig, OptimiserName
from training.methods.base import Method

__all__ = ["build_optimiser", "set_rate"]


def build_optimiser(method: Method, config: OptimiserConfig) -> Optimizer:
    """Builds the optimiser of a method's trainable parameters.

    Each of the method's groups is split by place (encoder, whose rate is scaled, or head) and by shape: 1-D parameters,
    which are biases and norms, are kept from weight decay, and by LARS from its rate per layer too.

    Args:
        method: The method; parameters that need no gradient are left out.
        config: Which optimiser, and its numbers.

    Returns:
        The optimiser; each group holds `rate`, its full rate, and `fixed_rate`, whether no schedule changes it, beside
        torch's own keys.

    Raises:
        ValueError: Nothing is left to train, or a parameter is in two groups.
    """
    groups = list(_split(method, config))
    if not groups:
        raise ValueError("no parameter is left to train; lower --freeze or raise --backbone-lr-scale above 0")
    if config.optimiser is OptimiserName.ADAMW:
        return AdamW(groups, lr=config.learning_rate)
    if config.optimiser is OptimiserName.SGD:
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    for group in groups:
        group["always_adapt"] = group["name"].endswith(".decayed")  # SimCLR and BYOL: not biases and norms
    return Lars(groups, lr=config.learning_rate, momentum=config.momentum, trust_coeff=0.001)


def set_rate(optimiser: Optimizer, factor: float) -> None:
    """Sets the rate of the next step.

    Args:
        optimiser: As `build_optimiser` made it.
        factor: On each group's full rate, but for groups of a fixed rate.
    """
    for group in optimiser.param_groups:
        fixed = group.get("fixed_rate", False)  # a checkpoint of an earlier version does not say
        group["lr"] = group["rate"] if fixed else group["rate"] * factor


def _split(method: Method, config: OptimiserConfig) -> Iterator[dict[str, Any]]:
    backbone = {id(parameter) for parameter in method.encoder.parameters()}
    for position, group in enumerate(method.param_groups()):
        parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            if parameter.requires_grad:
                parts.setdefault((id(parameter) in backbone, parameter.ndim > 1), []).append(parameter)
        for (in_backbone, decays), parameters in parts.items():
            scale = float(group.get("lr_scale", 1.0)) * (config.backbone_lr_scale if in_backbone else 1.0)
            if scale == 0:
                continue
            yield {
                "params": parameters,
                "name": f"{group.get('name', position)}.{'encoder' if in_backbone else 'head'}"
                f".{'decayed' if decays else 'kept'}",
                "rate": config.learning_rate * scale,
                "lr": config.learning_rate * scale,
                "fixed_rate": bool(group.get("fixed_rate", False)),
                "weight_decay": config.weight_decay if decays else 0.0,
            }
