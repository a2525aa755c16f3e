from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.encoder import TextEncoder, TextOutput
from training.batches.by_length import ByLength
from training.methods.base import MethodContext, Progress, TextBatch
from training.methods.image.simclr import nt_xent_loss
from training.methods.text.simcse import SimCSE, SimCSEConfig, simcse_loss, simcse_scores

START = Progress(step=0, max_steps=10, epoch=0)
CONTEXT = MethodContext(dataset_size=1000, batch_size=16)
APART = torch.arange(100)


def rows(count: int, *, seed: int, width: int = 6) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def gru(*, dropout: float = 0.2, width: int = 32) -> TextEncoder:
    torch.manual_seed(1)
    shape = TextEncoderConfig(vocab_size=60, width=width, embedding_width=16, dropout=dropout, pooling=Pooling.MEAN)
    return build_text_encoder(shape)


def bert(*, dropout: float = 0.2) -> TextEncoder:
    torch.manual_seed(1)
    kind = TextArchitecture.TRANSFORMER
    return build_text_encoder(
        TextEncoderConfig(architecture=kind, vocab_size=60, width=16, heads=2, layers=2, max_tokens=9, dropout=dropout)
    )


def simcse(tower: nn.Module | None = None, **settings: float) -> SimCSE:
    torch.manual_seed(2)
    return SimCSE([gru() if tower is None else tower], SimCSEConfig(**settings), context=CONTEXT)


def sentences(count: int, *, seed: int = 0) -> TextBatch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 60, (count, 7), generator=generator)
    mask = (torch.arange(7) < torch.randint(2, 8, (count, 1), generator=generator)).long()
    places = torch.arange(count)
    return TextBatch(ids, mask, places, places, places)


def test_two_sentences_by_hand() -> None:
    first, second = torch.tensor([[2.0, 0], [0, 5]]), torch.tensor([[1.0, 0], [3, 4]])
    # Cosines: 1 and 0.6 for the first sentence, 0 and 0.8 for the second; halved temperature doubles them.
    expected = (math.log(1 + math.exp(2 * (0.6 - 1))) + math.log(1 + math.exp(2 * (0 - 0.8)))) / 2
    assert simcse_loss(first, second, APART[:2], temperature=0.5).item() == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(0.277501, abs=1e-5)


def test_loss_equals_a_naive_one_with_copies_left_out() -> None:
    first, second = rows(6, seed=1), rows(6, seed=2)
    sentence = torch.tensor([0, 1, 0, 3, 1, 0])
    terms = []
    for i in range(6):
        scores = {
            j: float(F.cosine_similarity(first[i], second[j], dim=0)) / 0.3
            for j in range(6)
            if j == i or sentence[j] != sentence[i]
        }
        terms.append(math.log(sum(math.exp(score) for score in scores.values())) - scores[i])
    found = simcse_loss(first, second, sentence, temperature=0.3).item()
    assert found == pytest.approx(sum(terms) / 6, abs=1e-5)
    assert found != pytest.approx(simcse_loss(first, second, APART[:6], temperature=0.3).item(), abs=1e-2)


def test_equal_projections_give_chance_and_copies_alone_nothing() -> None:
    same = torch.ones(8, 4, requires_grad=True)
    assert simcse_loss(same, same, APART[:8], temperature=0.05).item() == pytest.approx(math.log(8), abs=1e-5)
    copies = simcse_loss(same, rows(8, seed=1, width=4), torch.zeros(8, dtype=torch.int64), temperature=0.05)
    torch.autograd.backward(copies)
    assert copies.item() == 0
    assert same.grad is not None
    assert torch.equal(same.grad, torch.zeros(8, 4))


def test_order_and_length_of_rows_do_not_matter_but_direction_does() -> None:
    first, second, order = rows(7, seed=1), rows(7, seed=2), torch.randperm(7)
    loss = simcse_loss(first, second, APART[:7], temperature=0.2)
    torch.testing.assert_close(simcse_loss(3 * first, second / 9, APART[:7], temperature=0.2), loss)
    torch.testing.assert_close(simcse_loss(first[order], second[order], APART[order], temperature=0.2), loss)
    assert abs(simcse_loss(second, first, APART[:7], temperature=0.2).item() - loss.item()) > 1e-3
    assert abs(nt_xent_loss(first, second, temperature=0.2).item() - loss.item()) > 1e-2


def test_both_readings_get_gradients() -> None:
    first, second = (rows(5, seed=seed).requires_grad_() for seed in (1, 2))
    torch.autograd.backward(simcse_loss(first, second, APART[:5], temperature=0.2))
    for reading in (first, second):
        assert reading.grad is not None
        assert bool((reading.grad.abs().sum(dim=1) > 1e-3).all())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_close(kind: torch.dtype) -> None:
    first, second = 200 * rows(16, seed=1, width=64), 200 * rows(16, seed=2, width=64)
    exact = simcse_loss(first, second, APART[:16], temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = simcse_loss(first.to(kind), second.to(kind), APART[:16], temperature=0.05)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)


def test_the_readings_are_one_pass_with_other_activations_dropped() -> None:
    method, batch = simcse(), sentences(8)
    torch.manual_seed(5)
    output = method.loss(batch, START)
    torch.manual_seed(5)
    ids, mask = batch.input_ids.repeat(2, 1), batch.attention_mask.repeat(2, 1)
    first, second = method.projector(method.encoder(ids, mask).pooled).chunk(2)
    assert (first - second).abs().max() > 1e-3
    expected = simcse_loss(first, second, batch.sentence, temperature=0.05)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.projections, first.detach())
    # Through both readings: from one alone the gradient would be another.
    found, wanted = (torch.autograd.grad(loss, list(method.parameters())) for loss in (output.loss, expected))
    torch.testing.assert_close(found, wanted)


def test_only_the_pooled_vector_is_kept() -> None:
    tower = gru()
    method = simcse(tower)
    assert method.encoder is tower
    assert [name for name, _ in method.named_parameters() if not name.startswith("encoder.")] == [
        "projector.0.weight",
        "projector.0.bias",
    ]
    head = nn.Linear(32, 32)
    head.load_state_dict({"weight": 1000 * torch.eye(32), "bias": torch.zeros(32)})
    method.projector[0].load_state_dict(head.state_dict())
    output = method.loss(sentences(8), START)
    assert 0.9 < output.projections.abs().max() <= 1  # tanh


def test_every_parameter_learns() -> None:
    method = simcse(ByLength(gru()))
    torch.autograd.backward(method.loss(sentences(40), START).loss)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_copies_of_a_sentence_are_no_candidates_in_the_batch() -> None:
    tower = gru()
    method, batch = simcse(tower), sentences(4)
    tower.eval()
    doubled = TextBatch(
        *(torch.cat([rows, rows]) for rows in (batch.input_ids, batch.attention_mask)), *[APART[:8]] * 3
    )
    marked = TextBatch(doubled.input_ids, doubled.attention_mask, doubled.document, APART[:8] % 4, doubled.index)
    # Without dropout a copy scores as its sentence does: as a candidate it would double its own sentence's chance.
    unit = F.normalize(method.loss(batch, START).projections, dim=1)
    chances = (unit @ unit.T / 0.05).exp()
    own, others = chances.diagonal(), chances.sum(dim=1) - chances.diagonal()
    masked, blind = (method.loss(each, START).loss for each in (marked, doubled))
    torch.testing.assert_close(masked, ((own + 2 * others) / own).log().mean())
    torch.testing.assert_close(blind, ((2 * own + 2 * others) / own).log().mean())


def test_accuracy_counts_sentences_found_again() -> None:
    class Fixed(nn.Module):
        width = 3

        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Parameter(torch.eye(3))
            self.dropout = nn.Dropout(0.5)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
            if len(input_ids) != 6:
                return TextOutput(self.dropout(self.vectors), self.dropout(self.vectors))
            found = torch.cat([self.vectors, self.vectors[[0, 2, 1]]])
            return TextOutput(found[:, None], found)

    method = simcse(Fixed())
    method.projector = nn.Sequential(nn.Identity())
    assert float(method.loss(sentences(3), START).metrics["accuracy"]) == pytest.approx(1 / 3)


class Functional(nn.Module):
    """Drops with a function, where no module tells of it."""

    width = 8

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.words = nn.Embedding(60, 8, padding_idx=0)
        self.probability = probability

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        states = F.dropout(self.words(input_ids), self.probability, self.training)
        return TextOutput(states, states.mean(dim=1))


@pytest.mark.parametrize(
    "tower",
    [
        lambda: gru(dropout=0.0),
        lambda: bert(dropout=0.0),
        lambda: bert().freeze(-1),
        lambda: ByLength(gru(dropout=0.0)),
        lambda: Functional(0.0),
    ],
)
def test_an_encoder_without_dropout_is_refused(tower: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"this encoder drops nothing: .*--dropout above 0"):
        simcse(tower())


@pytest.mark.parametrize(
    "tower",
    [lambda: gru(dropout=0.1), lambda: bert(dropout=0.1), lambda: bert().freeze(2), lambda: Functional(0.1)],
)
def test_any_dropout_will_do_and_asking_for_it_draws_nothing(tower: Callable[[], nn.Module]) -> None:
    encoder = tower().eval()  # as someone may have left it
    width = cast(int, encoder.width)
    torch.manual_seed(3)
    method = SimCSE([encoder], SimCSEConfig(), context=CONTEXT)
    torch.manual_seed(3)
    assert torch.equal(method.projector[0].get_parameter("weight"), nn.Linear(width, width).weight)
    assert encoder.training


def test_it_learns_to_find_sentences_again() -> None:
    method = simcse(gru(dropout=0.3))
    optimiser = torch.optim.Adam(method.parameters(), lr=0.01)
    before = method.loss(sentences(64, seed=1000), START)
    for step in range(30):
        torch.manual_seed(step)
        optimiser.zero_grad()
        torch.autograd.backward(method.loss(sentences(64, seed=step), START).loss)
        optimiser.step()
    after = method.loss(sentences(64, seed=1000), START)
    assert after.loss.item() < 0.6 * before.loss.item()
    assert float(after.metrics["accuracy"]) > float(before.metrics["accuracy"])


def test_bad_towers_settings_and_shapes_are_refused() -> None:
    pair = rows(4, seed=1)
    make: list[tuple[str, Callable[[], object]]] = [
        (r"--towers \(2\) must be 1", lambda: SimCSE([gru(), gru()], SimCSEConfig(), context=CONTEXT)),
        (r"--towers \(0\) must be 1", lambda: SimCSE([], SimCSEConfig(), context=CONTEXT)),
        (r"temperature \(0\)", lambda: SimCSEConfig(temperature=0)),
        (r"temperature \(-1\)", lambda: simcse_loss(pair, pair, APART[:4], temperature=-1)),
        (r"two equal \[n, d\]", lambda: simcse_scores(pair, pair[:3], APART[:4], temperature=1)),
        (r"a text number each", lambda: simcse_scores(pair, pair, APART[:3], temperature=1)),
        (r"n >= 1", lambda: simcse_scores(pair[:0], pair[:0], APART[:0], temperature=1)),
    ]
    for message, call in make:
        with pytest.raises(ValueError, match=message):
            call()
