import math

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.config import Pooling, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.gru import GruTextEncoder


def make_encoder(layers: int = 1, pooling: Pooling = Pooling.LAST) -> GruTextEncoder:
    torch.manual_seed(0)
    config = TextEncoderConfig(vocab_size=50, width=12, embedding_width=6, layers=layers, pooling=pooling)
    return GruTextEncoder(config).eval()


def make_batch(lengths: list[int], padded: int | None = None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    width = padded or max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    # What stands at padding is left random: it must not matter.
    return torch.randint(1, 50, (len(lengths), width)), mask


def packed_oracle(encoder: GruTextEncoder, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own bidirectional GRU on a packed sequence, with the same weights."""
    inputs = encoder.embedding(ids)
    for layer in encoder.recurrent:
        oracle = torch.nn.GRU(inputs.shape[2], encoder.width // 2, batch_first=True, bidirectional=True)
        state = dict(layer.get_submodule("ahead").state_dict())
        state |= {f"{name}_reverse": value for name, value in layer.get_submodule("back").state_dict().items()}
        oracle.load_state_dict(state)
        packed, final = oracle(pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False))
        inputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=ids.shape[1])
    return inputs, torch.cat([final[0], final[1]], dim=1)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", [[1], [9], [3, 7, 1], [2, 2]])
def test_states_and_final_states_equal_torchs_packed_gru(layers: int, lengths: list[int]) -> None:
    encoder = make_encoder(layers)
    ids, mask = make_batch(lengths)

    states, pooled = encoder(ids, mask)
    expected_states, expected_final = packed_oracle(encoder, ids, torch.tensor(lengths))

    torch.testing.assert_close(pooled, expected_final, atol=1e-6, rtol=0)
    torch.testing.assert_close(states * mask.unsqueeze(2), expected_states, atol=1e-6, rtol=0)


def test_gradients_equal_torchs_packed_gru() -> None:
    encoder = make_encoder(2)
    ids, mask = make_batch([3, 7, 1])
    torch.autograd.backward(encoder(ids, mask).pooled.square().sum())
    ours = encoder.embedding.weight.grad
    encoder.embedding.weight.grad = None

    torch.autograd.backward(packed_oracle(encoder, ids, mask.sum(dim=1))[1].square().sum())

    torch.testing.assert_close(ours, encoder.embedding.weight.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", [Pooling.LAST, Pooling.MEAN])
def test_a_vector_is_the_same_alone_and_in_a_padded_batch(pooling: Pooling) -> None:
    encoder = make_encoder(2, pooling)
    ids, mask = make_batch([4, 11, 1, 6], padded=13)

    together = encoder(ids, mask).pooled
    alone = torch.cat([encoder(row[:n].unsqueeze(0), torch.ones(1, n, dtype=torch.int64)).pooled
                       for row, n in zip(ids, [4, 11, 1, 6], strict=True)])  # fmt: skip

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_the_mean_is_over_both_directions_states() -> None:
    encoder = make_encoder(pooling=Pooling.MEAN)
    ids, mask = make_batch([3, 5])
    states, pooled = encoder(ids, mask)

    torch.testing.assert_close(pooled[0], states[0, :3].mean(dim=0))


def test_word_order_matters() -> None:
    encoder = make_encoder()
    ids = torch.tensor([[1, 2, 3]])
    mask = torch.ones(1, 3, dtype=torch.int64)

    assert (encoder(ids, mask).pooled - encoder(ids.flip(1), mask).pooled).abs().max() > 1e-3


def test_weights_start_uniform_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(TextEncoderConfig(vocab_size=2_000, width=64, embedding_width=32))

    for name, parameter in encoder.named_parameters():
        if "bias" in name:
            assert parameter.abs().max() == 0
        else:
            assert parameter.abs().max() <= 0.1
            assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(TextEncoderConfig(vocab_size=50, width=12, embedding_width=6, dropout=0.5))
    ids, mask = make_batch([5])

    assert not torch.equal(encoder(ids, mask).pooled, encoder(ids, mask).pooled)
    encoder.eval()
    assert torch.equal(encoder(ids, mask).pooled, encoder(ids, mask).pooled)
