from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from training.batches.text_corpus import TextCorpus
from training.batches.text_sentences import SentenceFeed
from training.streams import Position, Streams

STREAMS = Streams(0)


@pytest.fixture
def corpus(corpus_of: Callable[..., TextCorpus]) -> TextCorpus:
    """23 documents of 1 to 9 sentences, 105 in all."""
    return corpus_of(
        *[[f"{'x' * (number + 1)} {'y' * (place + 1)}" for place in range(1 + number % 9)] for number in range(23)]
    )


def epoch_rows(feed: SentenceFeed, epoch: int, world_size: int = 1) -> list[list[int]]:
    steps = feed.steps_per_epoch(world_size)
    places = [Position(0, epoch, step, rank, world_size) for step in range(steps) for rank in range(world_size)]
    return [feed.rows(place, STREAMS).tolist() for place in places]


def test_an_epoch_shows_no_sentence_twice_and_leaves_less_than_a_batch(corpus: TextCorpus) -> None:
    feed = SentenceFeed(corpus=corpus, sentences_per_step=10)

    for epoch in range(5):
        shown = [row for rows in epoch_rows(feed, epoch) for row in rows]
        assert len(set(shown)) == len(shown) == 100
        assert set(shown) <= set(range(len(corpus)))


def test_every_epoch_has_an_order_of_its_own_and_leaves_out_others(corpus: TextCorpus) -> None:
    feed = SentenceFeed(corpus=corpus, sentences_per_step=10)

    assert epoch_rows(feed, 0) == epoch_rows(feed, 0)
    assert epoch_rows(feed, 0) != epoch_rows(feed, 1)
    left = {frozenset(range(105)).difference(*epoch_rows(feed, epoch)) for epoch in range(5)}
    assert len(left) == 5
    assert {row for epoch in range(5) for rows in epoch_rows(feed, epoch) for row in rows} == set(range(105))


def test_a_batch_is_no_block_of_neighbours(corpus: TextCorpus) -> None:
    feed = SentenceFeed(corpus=corpus, sentences_per_step=10)

    pairs = [pair for epoch in range(10) for rows in epoch_rows(feed, epoch) for pair in itertools.pairwise(rows)]
    assert sum(b == a + 1 for a, b in pairs) < 0.05 * len(pairs)


def test_processes_share_an_epoch(corpus: TextCorpus) -> None:
    feed = SentenceFeed(corpus=corpus, sentences_per_step=10)

    assert feed.steps_per_epoch(2) == 5
    assert epoch_rows(feed, 3, world_size=2) == epoch_rows(feed, 3)
    assert epoch_rows(feed, 3, world_size=3) == epoch_rows(feed, 3)[:9]


def test_a_batch_carries_what_the_loss_needs(corpus: TextCorpus) -> None:
    feed = SentenceFeed(corpus=corpus, sentences_per_step=10)

    batch = feed.load(Position(0, 0, 1), STREAMS)

    rows = feed.rows(Position(0, 0, 1), STREAMS)
    assert batch.index.tolist() == rows.tolist()
    assert batch.document.tolist() == corpus.documents[rows].tolist()
    assert batch.sentence.tolist() == corpus.sentences[rows].tolist()
    assert batch.input_ids[:, 0].tolist() == [11 + int(document) for document in batch.document]
    assert batch.attention_mask.all()
    moved = feed.finish(batch, Position(0, 0, 1), STREAMS, torch.device("cpu"))
    assert torch.equal(moved.input_ids, batch.input_ids)
    assert (feed.item_count, feed.batch_size) == (105, 10)


def test_too_few_sentences_are_refused_with_the_flags(corpus: TextCorpus) -> None:
    assert SentenceFeed(corpus=corpus, sentences_per_step=105).steps_per_epoch(1) == 1
    with pytest.raises(ValueError, match=r"--batch-size \(106\) must be <= the training sentences \(105\)"):
        SentenceFeed(corpus=corpus, sentences_per_step=106)
    with pytest.raises(ValueError, match=r"--batch-size \(60\) times --devices \(2\) must be <= .* \(105\)"):
        SentenceFeed(corpus=corpus, sentences_per_step=60).steps_per_epoch(2)
