from __future__ import annotations

import pytest
import torch

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from training.batches.by_length import ByLength


@pytest.mark.parametrize(
    "config",
    [
        TextEncoderConfig(vocab_size=50, width=8, embedding_width=8),
        TextEncoderConfig(
            architecture=TextArchitecture.TRANSFORMER, vocab_size=50, width=8, heads=2, pooling=Pooling.MEAN
        ),
    ],
)
def test_it_gives_the_encoders_own_values_and_gradients(config: TextEncoderConfig) -> None:
    torch.manual_seed(0)
    tower = build_text_encoder(config)
    ids = torch.randint(5, 50, (70, 20))
    lengths = torch.randint(1, 21, (70,))
    mask = (torch.arange(20) < lengths[:, None]).long()
    weights = torch.randn(70, 8)

    whole = tower(ids, mask).pooled
    (whole * weights).sum().backward()
    expected = {
        name: parameter.grad.clone() for name, parameter in tower.named_parameters() if parameter.grad is not None
    }
    tower.zero_grad()
    parts = ByLength(tower)(ids, mask).pooled
    (parts * weights).sum().backward()

    assert torch.allclose(parts, whole, atol=1e-6)
    for name, parameter in tower.named_parameters():
        if name in expected:
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, expected[name], atol=1e-4), name


def test_it_computes_less_padding() -> None:
    tower = build_text_encoder(TextEncoderConfig(vocab_size=50, width=8, embedding_width=8))
    read: list[int] = []
    tower.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].numel()))
    mask = (torch.arange(40) < torch.tensor([4] * 60 + [40] * 4)[:, None]).long()

    ByLength(tower)(torch.full((64, 40), 7), mask)

    assert sum(read) == 3 * 16 * 4 + 16 * 40
