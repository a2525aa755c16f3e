from __future__ import annotations

import pytest
import torch
from torch import nn

from models.heads import Block, ProjectionHead, mlp


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


def test_mlp_is_linear_norm_relu_for_each_hidden_layer_and_linear_at_the_end() -> None:
    head = mlp(6, 8, 8, 3, output_bias=False)

    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert [tuple(layer.weight.shape) for layer in head.layers if isinstance(layer, nn.Linear)] == [
        (8, 6),
        (8, 8),
        (3, 8),
    ]
    assert [layer.bias is not None for layer in head.layers if isinstance(layer, nn.Linear)] == [True, True, False]
    assert kinds(mlp(6, 8, 3, batch_norm=False)) == ["Linear", "ReLU", "Linear"]
    assert kinds(mlp(6, 3)) == ["Linear"]
    with pytest.raises(ValueError, match=r"widths of its input and its output, got \[6\]"):
        mlp(6)


def test_a_norm_without_scale_and_shift_only_standardises() -> None:
    torch.manual_seed(0)
    head = ProjectionHead([Block(inputs=4, outputs=3, scale=False, centre=False, relu=False)])

    assert [p.requires_grad for p in head.layers[1].parameters()] == [False, False]
    outputs = head(torch.randn(50, 4))
    torch.testing.assert_close(outputs.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.std(dim=0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="block 0 gives 4 values, but block 1 takes 5"):
        ProjectionHead([Block(inputs=2, outputs=4), Block(inputs=5, outputs=3)])
    with pytest.raises(ValueError, match="at least one block"):
        ProjectionHead([])
