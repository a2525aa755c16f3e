import pytest
import torch
from torch import Tensor

from models.config import TextEncoderConfig
from models.text.encoder import TextEncoder, TextOutput
from models.text.served import ServedTextEncoder


class FixedEncoder(TextEncoder):
    """Gives the same vector for every text."""

    def __init__(self, vector: list[float]) -> None:
        super().__init__(TextEncoderConfig(), width=len(vector))
        self.vector = torch.tensor(vector)

    def layers(self) -> list[object]:  # type: ignore[override]  # nothing to freeze
        return []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        n, t = attention_mask.shape
        return TextOutput(self.vector.expand(n, t, -1) + input_ids[..., None], self.vector.expand(n, -1))


IDS = torch.zeros(2, 3, dtype=torch.int64)
MASK = torch.ones(2, 3, dtype=torch.int64)


def test_one_tower_is_served_at_unit_length() -> None:
    _, vectors = ServedTextEncoder([FixedEncoder([3.0, 4.0])])(IDS, MASK)

    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.6, 0.8]]))


def test_one_tower_can_be_served_as_it_is() -> None:
    _, vectors = ServedTextEncoder([FixedEncoder([3.0, 4.0])], normalize=False)(IDS, MASK)

    assert vectors.tolist() == [[3.0, 4.0], [3.0, 4.0]]


def test_two_towers_weigh_the_same_whatever_their_lengths() -> None:
    served = ServedTextEncoder([FixedEncoder([3.0, 4.0]), FixedEncoder([0.0, -90.0])])
    states, vectors = served(IDS, MASK)

    half = 2**-0.5
    torch.testing.assert_close(vectors[0], torch.tensor([0.6, 0.8, 0.0, -1.0]) * half)
    assert vectors[0].norm().item() == pytest.approx(1)
    assert states[0, 0].tolist() == [3.0, 4.0, 0.0, -90.0]
    assert served.width == 4


def test_other_counts_of_towers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 2 towers, not 0"):
        ServedTextEncoder([])
    with pytest.raises(ValueError, match="two towers need normalize"):
        ServedTextEncoder([FixedEncoder([1.0]), FixedEncoder([1.0])], normalize=False)
