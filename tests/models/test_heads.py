import pytest
import torch
from torch import nn

from models.heads import Block, MeanShiftPredictor, MeanShiftProjector, ProjectionHead, SimCLRProjector


def shapes(head: ProjectionHead) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head.layers]


@pytest.mark.parametrize(
    ("width", "expected"), [(2048, [(2048, 4096), (4096, 512)]), (512, [(512, 1024), (1024, 128)])]
)
def test_mean_shift_projector_has_the_papers_widths(width: int, expected: list[tuple[int, int]]) -> None:
    assert shapes(MeanShiftProjector(width)) == expected


@pytest.mark.parametrize(("width", "expected"), [(2048, [(512, 4096), (4096, 512)]), (512, [(128, 1024), (1024, 128)])])
def test_mean_shift_predictor_has_the_papers_widths(width: int, expected: list[tuple[int, int]]) -> None:
    assert shapes(MeanShiftPredictor(width)) == expected


def test_mean_shift_heads_normalise_the_hidden_layer_alone() -> None:
    for head in (MeanShiftProjector(16), MeanShiftPredictor(16)):
        assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_a_norm_can_close_the_mean_shift_projector() -> None:
    head = MeanShiftProjector(16, output_norm=True)

    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert [parameter.requires_grad for parameter in head.layers[4].parameters()] == [True, False]


def test_the_predictor_takes_what_the_projector_gives() -> None:
    assert MeanShiftProjector(20).width == shapes(MeanShiftPredictor(20))[0][0] == MeanShiftPredictor(20).width == 5


def test_simclr_projector_normalises_both_layers_and_has_no_bias_of_its_own() -> None:
    head = SimCLRProjector(16, outputs=4)

    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert shapes(head) == [(16, 16), (16, 4)]
    assert all(layer.bias is None for layer in head.modules() if isinstance(layer, nn.Linear))


def test_simclr_projections_stay_centred_after_training() -> None:
    torch.manual_seed(0)
    head = SimCLRProjector(16, hidden=8, outputs=4)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    inputs = torch.randn(32, 16)
    for _ in range(3):
        optimizer.zero_grad()
        (head(inputs) * torch.arange(32.0)[:, None]).mean().backward()
        optimizer.step()

    assert head(inputs).mean(dim=0).abs().max() < 1e-5


def test_simclr_projector_equals_the_formula() -> None:
    torch.manual_seed(0)
    head = SimCLRProjector(6, outputs=3)
    inputs = torch.randn(9, 6)
    first, second = (layer.weight for layer in head.modules() if isinstance(layer, nn.Linear))

    def standardise(values: torch.Tensor) -> torch.Tensor:
        return (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()

    expected = standardise(standardise(inputs @ first.T).relu() @ second.T)

    torch.testing.assert_close(head(inputs), expected)


@pytest.mark.parametrize("head", [MeanShiftProjector, MeanShiftPredictor])
def test_a_width_too_small_for_a_quarter_is_refused(head: type[MeanShiftProjector] | type[MeanShiftPredictor]) -> None:
    with pytest.raises(ValueError, match=r"\(3\) must be >= 4"):
        head(3)


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="block 0 gives 4 values, but block 1 takes 5"):
        ProjectionHead([Block(inputs=2, outputs=4), Block(inputs=5, outputs=3)])
    with pytest.raises(ValueError, match="at least one block"):
        ProjectionHead([])
