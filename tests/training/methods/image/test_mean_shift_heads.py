from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from models.heads import ProjectionHead
from training.methods.image.mean_shift import mean_shift_predictor, mean_shift_projector


def shapes(head: ProjectionHead) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


@pytest.mark.parametrize(
    ("width", "expected"), [(2048, [(2048, 4096), (4096, 512)]), (512, [(512, 1024), (1024, 128)])]
)
def test_mean_shift_projector_has_the_papers_widths(width: int, expected: list[tuple[int, int]]) -> None:
    assert shapes(mean_shift_projector(width)) == expected


@pytest.mark.parametrize(("width", "expected"), [(2048, [(512, 4096), (4096, 512)]), (512, [(128, 1024), (1024, 128)])])
def test_mean_shift_predictor_has_the_papers_widths(width: int, expected: list[tuple[int, int]]) -> None:
    assert shapes(mean_shift_predictor(width)) == expected


def test_mean_shift_heads_normalise_the_hidden_layer_alone() -> None:
    for head in (mean_shift_projector(16), mean_shift_predictor(16)):
        assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_a_norm_can_close_the_mean_shift_projector() -> None:
    head = mean_shift_projector(16, output_norm=True)

    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert [parameter.requires_grad for parameter in head.layers[4].parameters()] == [True, False]


def test_the_predictor_takes_what_the_projector_gives() -> None:
    assert (
        mean_shift_projector(20).width == shapes(mean_shift_predictor(20))[0][0] == mean_shift_predictor(20).width == 5
    )


@pytest.mark.parametrize("head", [mean_shift_projector, mean_shift_predictor])
def test_a_width_too_small_for_a_quarter_is_refused(head: Callable[[int], ProjectionHead]) -> None:
    with pytest.raises(ValueError, match=r"\(3\) must be >= 4"):
        head(3)
