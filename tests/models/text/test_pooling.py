import pytest
import torch

from models.config import Pooling
from models.text.pooling import last_state, mean_state, pool

STATES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 5.0], [7.0, 1.0], [0.0, 3.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling.MEAN, [[2.0, 4.0], [4.0, 3.0]]),
        (Pooling.CLS, [[1.0, 2.0], [5.0, 5.0]]),
        (Pooling.LAST, [[3.0, 6.0], [0.0, 3.0]]),
    ],
)
def test_pooling_ignores_padding(pooling: Pooling, expected: list[list[float]]) -> None:
    assert pool(STATES, MASK, pooling).tolist() == expected


def test_the_last_state_is_found_behind_left_padding_too() -> None:
    assert last_state(STATES, torch.tensor([[0, 1, 1], [0, 0, 1]])).tolist() == [[100.0, 100.0], [0.0, 3.0]]


def test_a_row_without_tokens_has_a_finite_mean() -> None:
    assert mean_state(STATES, torch.zeros(2, 3, dtype=torch.int64)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
