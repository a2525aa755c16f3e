from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.encoder import TextEncoder, TextOutput
from training.batches.by_length import ByLength
from training.methods.base import MethodContext, Progress, TextBatch
from training.methods.text.tsdae import TSDAE, SentenceDecoder, TSDAEConfig, delete_tokens, reconstruction_loss

START = Progress(step=0, max_steps=10, epoch=0)
CLS, SEP = 1, 2
CONTEXT = MethodContext(dataset_size=1000, batch_size=16, special_ids=(CLS, SEP))
SPECIAL = torch.tensor([CLS, SEP])
VOCABULARY = 40


def encoder(kind: TextArchitecture = TextArchitecture.GRU) -> TextEncoder:
    torch.manual_seed(1)
    return build_text_encoder(
        TextEncoderConfig(
            architecture=kind,
            vocab_size=VOCABULARY,
            width=16,
            embedding_width=12,
            heads=2,
            max_tokens=12,
            pooling=Pooling.MEAN,
        )
    )


def tsdae(tower: nn.Module | None = None, *, deletion_ratio: float = 0.6) -> TSDAE:
    torch.manual_seed(2)
    config = TSDAEConfig(deletion_ratio=deletion_ratio)
    return TSDAE([encoder() if tower is None else tower], config, context=CONTEXT)


def sentences(count: int, *, seed: int = 0, words: int = 9) -> TextBatch:
    """`[CLS]`, one word to `words` of them, `[SEP]`, padding of 0."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (count, words + 2), generator=generator)
    lengths = torch.randint(1, words + 1, (count, 1), generator=generator)
    columns = torch.arange(words + 2)
    ids = ids.masked_fill(columns == 0, CLS).masked_fill(columns == lengths + 1, SEP)
    mask = (columns < lengths + 2).long()
    places = torch.arange(count)
    return TextBatch(ids * mask, mask, places, places, places)


class Still(nn.Module):
    """Gives every text the same vector, and states that are no numbers."""

    width = 16

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 12)
        self.vector = nn.Parameter(torch.linspace(-1, 1, 16))
        self.read: list[tuple[Tensor, Tensor]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        self.read.append((input_ids, attention_mask))
        return TextOutput(torch.full((*input_ids.shape, 16), math.nan), self.vector.expand(len(input_ids), -1))


def test_deletion_by_hand() -> None:
    ids = torch.tensor([[1, 11, 12, 13, 2, 0], [1, 21, 22, 2, 0, 0], [1, 31, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0]])
    mask = (ids > 0).long()
    draws = torch.tensor(
        [
            [0.0, 0.7, 0.5, 0.6, 0.0, 0.9],  # the second word goes
            [0.0, 0.1, 0.3, 0.0, 0.9, 0.9],  # both would go; the higher draw stays
            [0.9, 0.0, 0.9, 0.9, 0.9, 0.9],  # an only word stays
            [0.0, 0.0, 0.9, 0.9, 0.9, 0.9],  # no word at all
        ]
    )
    left, left_mask = delete_tokens(ids, mask, draws, ratio=0.6, special_ids=SPECIAL)
    assert left.tolist() == [[1, 11, 13, 2], [1, 22, 2, 0], [1, 31, 2, 0], [1, 2, 0, 0]]
    assert left_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert left_mask.dtype == mask.dtype


def test_deletion_keeps_order_frame_and_a_word_and_takes_its_share() -> None:
    batch = sentences(500, words=40)
    draws = torch.rand(batch.input_ids.shape, generator=torch.Generator().manual_seed(3))
    left, mask = delete_tokens(batch.input_ids, batch.attention_mask, draws, ratio=0.6, special_ids=SPECIAL)
    assert mask.shape[1] == int(mask.sum(dim=1).max())
    counts = []
    for row in range(500):
        clean = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        kept = left[row, : int(mask[row].sum())].tolist()
        assert not left[row, len(kept) :].any()
        assert (kept[0], kept[-1]) == (CLS, SEP)
        assert len(kept) > 2
        walk = iter(clean)
        assert all(token in walk for token in kept)  # a subsequence
        counts.append((len(clean) - len(kept), len(clean) - 2))
    long = [(gone, words) for gone, words in counts if words >= 10]
    assert sum(gone for gone, _ in long) / sum(words for _, words in long) == pytest.approx(0.6, abs=0.02)


def test_nothing_is_deleted_at_ratio_0_and_padding_has_no_say() -> None:
    batch = sentences(20)
    longest = int(batch.attention_mask.sum(dim=1).max())
    left, mask = delete_tokens(
        batch.input_ids, batch.attention_mask, torch.zeros(20, 11), ratio=0.0, special_ids=SPECIAL
    )
    assert torch.equal(left, batch.input_ids[:, :longest])
    assert torch.equal(mask, batch.attention_mask[:, :longest])

    draws = torch.rand(20, 11, generator=torch.Generator().manual_seed(1))
    other = torch.where(batch.attention_mask.bool(), draws, 1 - draws)
    found = [
        delete_tokens(batch.input_ids, batch.attention_mask, each, ratio=0.6, special_ids=SPECIAL)
        for each in (draws, other)
    ]
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_equal_scores_give_chance_and_no_token_no_loss() -> None:
    tokens = torch.tensor([3, 0, 9])
    assert reconstruction_loss(torch.ones(3, 10), tokens).item() == pytest.approx(math.log(10), abs=1e-5)
    scores = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    assert reconstruction_loss(scores, torch.tensor([1, 1])).item() == pytest.approx(expected, abs=1e-5)
    none = torch.zeros(0, 10, requires_grad=True)
    torch.autograd.backward(reconstruction_loss(none, tokens[:0]))
    assert none.grad is not None


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_close(kind: torch.dtype) -> None:
    scores = 40 * torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(64)
    found = reconstruction_loss(scores.to(kind), tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reconstruction_loss(scores, tokens), rtol=2e-2, atol=2e-2)


def test_the_decoder_sees_the_vector_everywhere_and_no_word_to_come() -> None:
    torch.manual_seed(0)
    decoder = SentenceDecoder(vector_width=6, word_width=5, vocab_size=9, width=7)
    vectors, words = torch.randn(3, 6), torch.randn(3, 8, 5)
    said = decoder(vectors, words)
    assert said.shape == (3, 8, 5)
    changed = words.clone()
    changed[:, 4] += 1
    moved = (decoder(vectors, changed) - said).abs().amax(dim=(0, 2))
    assert torch.equal(moved[:4], torch.zeros(4))
    assert bool((moved[4:] > 1e-4).all())
    assert bool(((decoder(vectors + 1, words) - said).abs().amax(dim=2) > 1e-3).all())
    nn.init.zeros_(decoder.start.weight)  # beside every word, and not from the start alone
    assert bool(((decoder(vectors + 1, words) - decoder(vectors, words)).abs().amax(dim=2) > 1e-3).all())


def test_the_loss_is_teacher_forced_on_the_clean_sentence() -> None:
    method, batch = tsdae(Still()), sentences(6)
    table, decoder = method.encoder.get_parameter("words.weight"), method.decoder
    vector, terms = method.encoder.get_parameter("vector"), []
    for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        clean = ids[mask.bool()]
        for place in range(1, len(clean)):
            said = decoder(vector[None], table[clean[:place]][None])[0, -1]
            terms.append(F.cross_entropy(table @ said + decoder.bias, clean[place]))
    expected = torch.stack(terms).mean()
    for seed in (0, 1):  # what was deleted changes what is read, never what is asked
        torch.manual_seed(seed)
        torch.testing.assert_close(method.loss(batch, START).loss, expected)


def test_the_encoder_reads_remains_and_another_step_others() -> None:
    tower = Still()
    method, batch = tsdae(tower), sentences(30)
    for seed in (0, 1, 1):
        torch.manual_seed(seed)
        method.loss(batch, START)
    first, second, again = (ids for ids, _ in tower.read)
    words = [int((ids > SEP).sum()) for ids in (batch.input_ids, first, second)]
    assert max(words[1:]) < 0.65 * words[0]
    assert not torch.equal(first, second[:, : first.shape[1]])
    assert torch.equal(second, again)


def test_padding_changes_nothing() -> None:
    method, batch = tsdae(deletion_ratio=0.0), sentences(8)
    padded = replace(
        batch, input_ids=F.pad(batch.input_ids, (0, 5)), attention_mask=F.pad(batch.attention_mask, (0, 5))
    )
    torch.testing.assert_close(method.loss(padded, START).loss, method.loss(batch, START).loss)


@pytest.mark.parametrize("kind", [TextArchitecture.GRU, TextArchitecture.TRANSFORMER])
def test_the_encoders_table_is_the_decoders_and_is_held_once(kind: TextArchitecture) -> None:
    tower = encoder(kind)
    method = tsdae(ByLength(tower))
    name = "embedding.weight" if kind is TextArchitecture.GRU else "backbone.embeddings.word_embeddings.weight"
    table = tower.get_parameter(name)
    large = [key for key, value in method.state_dict().items() if VOCABULARY in value.shape]
    assert large == [f"encoder.tower.{name}", "decoder.bias"]
    torch.autograd.backward(method.loss(sentences(40), START).loss)
    assert table.grad is not None
    assert bool((table.grad.abs().sum(dim=1) > 0).all())  # as outputs all entries are told apart
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None, key


def test_a_fixed_table_stays_and_the_rest_learns() -> None:
    tower = encoder(TextArchitecture.TRANSFORMER).freeze(1)
    method = tsdae(tower)
    torch.autograd.backward(method.loss(sentences(20), START).loss)
    assert tower.get_parameter("backbone.embeddings.word_embeddings.weight").grad is None
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_sentences_of_one_token_ask_nothing() -> None:
    method = tsdae()
    ones = torch.ones(4, 1, dtype=torch.int64)
    places = torch.arange(4)
    output = method.loss(TextBatch(7 * ones, ones, places, places, places), START)
    torch.autograd.backward(output.loss)
    assert (output.loss.item(), float(output.metrics["accuracy"])) == (0, 0)


@pytest.mark.parametrize("kind", [TextArchitecture.GRU, TextArchitecture.TRANSFORMER])
def test_bf16_encoders_give_the_loss_in_fp32(kind: TextArchitecture) -> None:
    method, batch = tsdae(encoder(kind).eval(), deletion_ratio=0.0), sentences(16)
    exact = method.loss(batch, START).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = method.loss(batch, START).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)


def test_the_vector_comes_to_hold_the_sentence() -> None:
    method = tsdae(deletion_ratio=0.3)
    batch = sentences(24, words=5)
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    for step in range(60):
        torch.manual_seed(step)
        optimiser.zero_grad()
        torch.autograd.backward(method.loss(batch, START).loss)
        optimiser.step()
    output = method.loss(batch, START)
    assert float(output.metrics["accuracy"]) > 0.5

    class Swapped(nn.Module):
        def __init__(self, tower: nn.Module) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
            states, pooled = self.tower(input_ids, attention_mask)
            return TextOutput(states, pooled.roll(1, dims=0))

    method.encoder = Swapped(method.encoder)
    assert method.loss(batch, START).loss.item() > output.loss.item() + 1


def test_the_tokenizers_frame_is_no_part_of_a_checkpoint() -> None:
    method = tsdae()
    assert "special_ids" not in method.state_dict()
    assert method.special_ids.tolist() == [CLS, SEP]
    assert method.needs.shuffled


def test_bad_towers_and_settings_are_refused() -> None:
    class Bare(nn.Module):
        width = 8

    pair = torch.ones(2, 3, dtype=torch.int64)
    make: list[tuple[str, Callable[[], object]]] = [
        (r"--towers \(2\) must be 1", lambda: TSDAE([encoder(), encoder()], TSDAEConfig(), context=CONTEXT)),
        (r"--towers \(0\) must be 1", lambda: TSDAE([], TSDAEConfig(), context=CONTEXT)),
        (r"and Bare has none", lambda: tsdae(Bare())),
        (r"deletion_ratio \(1\)", lambda: TSDAEConfig(deletion_ratio=1)),
        (r"deletion_ratio \(-0.1\)", lambda: TSDAEConfig(deletion_ratio=-0.1)),
        (r"decoder_width \(0\)", lambda: TSDAEConfig(decoder_width=0)),
        (r"ratio \(1.5\)", lambda: delete_tokens(pair, pair, torch.rand(2, 3), ratio=1.5, special_ids=SPECIAL)),
    ]
    for message, call in make:
        with pytest.raises(ValueError, match=message):
            call()
