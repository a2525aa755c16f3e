from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.text.encoder import TextOutput
from training.losses.adjacency import adjacency_of
from training.losses.quick_thoughts import adjacency_scores, quick_thoughts_loss
from training.methods.base import MethodContext, Progress, TextBatch
from training.methods.text.quick_thoughts import QuickThoughts, QuickThoughtsConfig, QuickThoughtsLoss, Similarity

START = Progress(step=0, max_steps=10, epoch=0)
CONTEXT = MethodContext(dataset_size=1000, batch_size=16)


class BagTower(nn.Module):
    """The paper's bag of words: the sum of a sentence's word vectors."""

    def __init__(self, *, seed: int, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(200, width)
        nn.init.normal_(self.words.weight, std=0.3, generator=torch.Generator().manual_seed(seed))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        states = self.words(input_ids) * attention_mask[:, :, None]
        return TextOutput(states, states.sum(dim=1))


def chain(count: int, *, seed: int) -> TextBatch:
    """Sentence i of a document uses words 5i to 5i + 9: it shares half of them with each neighbour."""
    generator = torch.Generator().manual_seed(seed)
    start = 5 * torch.randint(0, 200 // 5 - count - 1, (1,), generator=generator)
    words = start + 5 * torch.arange(count)[:, None] + torch.randint(0, 10, (count, 6), generator=generator)
    places = torch.arange(count)
    return TextBatch(words, torch.ones_like(words), torch.zeros(count, dtype=torch.int64), places, places)


def two_towers(config: QuickThoughtsConfig | None = None) -> QuickThoughts:
    return QuickThoughts([BagTower(seed=1), BagTower(seed=2)], config or QuickThoughtsConfig(), context=CONTEXT)


def learn(method: QuickThoughts, *, steps: int) -> None:
    optimiser = torch.optim.Adam(method.parameters(), lr=0.03)
    for step in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(method.loss(chain(16, seed=step), START).loss)
        optimiser.step()


def test_loss_is_the_papers_on_the_two_towers_outputs() -> None:
    method, batch = two_towers(), chain(8, seed=0)
    f, g = (tower(batch.input_ids, batch.attention_mask).pooled for tower in method.encoder)
    adjacency = adjacency_of(batch.document, batch.index, batch.sentence)
    torch.testing.assert_close(method.loss(batch, START).loss, quick_thoughts_loss(adjacency_scores(f, g), adjacency))


def test_both_towers_get_gradients() -> None:
    method = two_towers()
    torch.autograd.backward(method.loss(chain(8, seed=0), START).loss)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0.1


def test_a_tied_tower_scores_by_cosine_over_temperature() -> None:
    tower = BagTower(seed=1)
    config = QuickThoughtsConfig(similarity=Similarity.COSINE, temperature=0.05)
    method = QuickThoughts([tower], config, context=CONTEXT)
    batch = chain(8, seed=0)
    unit = nn.functional.normalize(tower(batch.input_ids, batch.attention_mask).pooled, dim=1)
    adjacency = adjacency_of(batch.document, batch.index, batch.sentence)
    torch.testing.assert_close(
        method.loss(batch, START).loss, quick_thoughts_loss(unit @ unit.T / 0.05, adjacency), atol=1e-5, rtol=1e-5
    )


def test_document_breaks_drop_targets_but_keep_candidates() -> None:
    method, batch = two_towers(), chain(6, seed=0)
    broken = TextBatch(
        batch.input_ids, batch.attention_mask, torch.tensor([0, 0, 0, 1, 1, 1]), batch.sentence, batch.index
    )
    f, g = (tower(batch.input_ids, batch.attention_mask).pooled for tower in method.encoder)
    scores = f @ g.T
    expected = []
    for i, targets in enumerate([[1], [0, 2], [1], [4], [3, 5], [4]]):
        others = [j for j in range(6) if j != i]
        expected.append(torch.logsumexp(scores[i, others], 0) - scores[i, targets].mean())
    torch.testing.assert_close(method.loss(broken, START).loss, torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)


def test_accuracy_counts_neighbours_scored_best() -> None:
    class Fixed(nn.Module):
        def __init__(self, vectors: Tensor) -> None:
            super().__init__()
            self.vectors = nn.Parameter(vectors)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
            return TextOutput(self.vectors[:, None], self.vectors)

    # Rows 0 and 1 find each other, row 2 prefers 0, which is no neighbour; row 3 is alone.
    scores = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [5, 1, 9, 0], [1, 0, 0, 0]])
    method = QuickThoughts([Fixed(scores), Fixed(torch.eye(4))], QuickThoughtsConfig(), context=CONTEXT)
    places = torch.arange(4)
    batch = TextBatch(places[:, None], torch.ones(4, 1), torch.tensor([0, 0, 0, 1]), places, places)
    metrics = method.loss(batch, START).metrics
    assert float(metrics["accuracy"]) == pytest.approx(2 / 3)
    assert float(metrics["rows"]) == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("config", "chance"),
    [
        (QuickThoughtsConfig(), math.log(15)),
        (QuickThoughtsConfig(loss=QuickThoughtsLoss.LOGISTIC), math.log(2)),
    ],
)
def test_it_learns_which_sentences_are_neighbours(config: QuickThoughtsConfig, chance: float) -> None:
    method = two_towers(config)
    before = method.loss(chain(16, seed=1000), START).metrics["accuracy"]
    learn(method, steps=150)
    held_out = [method.loss(chain(16, seed=1000 + s), START) for s in range(5)]
    assert sum(out.loss.item() for out in held_out) / 5 < 0.8 * chance
    assert sum(float(out.metrics["accuracy"]) for out in held_out) / 5 > max(0.5, float(before))


def test_a_tied_tower_learns_too() -> None:
    method = QuickThoughts(
        [BagTower(seed=1)], QuickThoughtsConfig(similarity=Similarity.COSINE, temperature=0.1), context=CONTEXT
    )
    before = method.loss(chain(16, seed=1000), START).loss.item()
    learn(method, steps=30)
    assert method.loss(chain(16, seed=1000), START).loss.item() < 0.9 * before


def test_bad_towers_and_settings_are_refused() -> None:
    tower = BagTower(seed=1)
    make: list[tuple[str, Callable[[], object]]] = [
        ("one tower, or two", lambda: QuickThoughts([], QuickThoughtsConfig(), context=CONTEXT)),
        ("one tower, or two", lambda: QuickThoughts([tower, tower], QuickThoughtsConfig(), context=CONTEXT)),
        (r"temperature \(0\)", lambda: QuickThoughtsConfig(temperature=0)),
        (r"context_size \(0\)", lambda: QuickThoughtsConfig(context_size=0)),
    ]
    for message, call in make:
        with pytest.raises(ValueError, match=message):
            call()
