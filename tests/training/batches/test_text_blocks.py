from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from training.batches.text_blocks import TextFeed
from training.batches.text_corpus import TextCorpus
from training.streams import Position, Streams

STREAMS = Streams(0)


@pytest.fixture
def corpus(corpus_of: Callable[..., TextCorpus]) -> TextCorpus:
    """23 documents of 1 to 9 sentences, 105 in all."""
    return corpus_of(
        *[[f"{'x' * (number + 1)} {'y' * (place + 1)}" for place in range(1 + number % 9)] for number in range(23)]
    )


def epoch_rows(feed: TextFeed, epoch: int, world_size: int = 1) -> list[list[int]]:
    steps = feed.steps_per_epoch(world_size)
    places = [Position(0, epoch, step, rank, world_size) for step in range(steps) for rank in range(world_size)]
    return [feed.rows(place, STREAMS).tolist() for place in places]


def breaks(rows: list[int], corpus: TextCorpus) -> int:
    """Counts neighbours in a block that are neither neighbours in the corpus nor of two documents."""
    pairs = itertools.pairwise(rows)
    return sum(b != a + 1 and corpus.documents[a] == corpus.documents[b] for a, b in pairs)


def test_blocks_are_contiguous_within_documents(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    for epoch in range(5):
        for rows in epoch_rows(feed, epoch):
            assert len(rows) == 10
            assert breaks(rows, corpus) == 0
            # A document may be cut by a block's ends only: inside it is whole.
            inner = {int(corpus.documents[row]) for row in rows} - {
                int(corpus.documents[rows[0]]),
                int(corpus.documents[rows[-1]]),
            }
            for document in inner:
                assert set(np.flatnonzero(corpus.documents == document)) <= set(rows)


def test_an_epoch_shows_no_sentence_twice_and_most_once(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    for epoch in range(5):
        shown = [row for rows in epoch_rows(feed, epoch) for row in rows]
        assert len(set(shown)) == len(shown) == 10 * feed.steps_per_epoch(1)
        assert len(corpus) - len(shown) < 20


def test_ten_epochs_show_every_sentence(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    shown = {row for epoch in range(10) for rows in epoch_rows(feed, epoch) for row in rows}

    assert shown == set(range(len(corpus)))


def test_blocks_and_documents_come_in_another_order_each_epoch(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    assert epoch_rows(feed, 0) == epoch_rows(feed, 0)
    assert epoch_rows(feed, 0) != epoch_rows(feed, 1)
    assert sorted(epoch_rows(feed, 0)) != epoch_rows(feed, 0)


def test_in_a_fixed_order_blocks_are_ranges_at_another_offset_each_epoch(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10, shuffle_documents=False)

    offsets = set()
    for epoch in range(12):
        blocks = epoch_rows(feed, epoch)
        assert all(rows == list(range(rows[0], rows[0] + 10)) for rows in blocks)
        assert blocks != sorted(blocks)
        offsets.add(min(rows[0] for rows in blocks))
    assert len(offsets) > 4


def test_processes_share_an_epoch(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    assert feed.steps_per_epoch(2) == feed.steps_per_epoch(1) // 2 == 4
    assert epoch_rows(feed, 3, world_size=2) == epoch_rows(feed, 3)[:8]


def test_a_block_carries_what_the_loss_needs(corpus: TextCorpus) -> None:
    feed = TextFeed(corpus=corpus, block_size=10)

    batch = feed.load(Position(0, 0, 1), STREAMS)

    rows = feed.rows(Position(0, 0, 1), STREAMS)
    assert batch.index.tolist() == rows.tolist()
    assert batch.document.tolist() == corpus.documents[rows].tolist()
    assert batch.sentence.tolist() == corpus.sentences[rows].tolist()
    assert batch.input_ids[:, 0].tolist() == [11 + int(document) for document in batch.document]
    assert batch.attention_mask.all()
    moved = feed.finish(batch, Position(0, 0, 1), STREAMS, torch.device("cpu"))
    assert torch.equal(moved.input_ids, batch.input_ids)


def test_one_long_document_never_joins_its_end_to_its_start(corpus_of: Callable[..., TextCorpus]) -> None:
    corpus = corpus_of([f"w{number}" for number in range(47)])
    feed = TextFeed(corpus=corpus, block_size=10)

    assert all(rows == list(range(rows[0], rows[0] + 10)) for epoch in range(9) for rows in epoch_rows(feed, epoch))


def test_a_corpus_of_exactly_one_block_is_enough(corpus_of: Callable[..., TextCorpus]) -> None:
    corpus = corpus_of([f"w{number}" for number in range(10)])

    assert epoch_rows(TextFeed(corpus=corpus, block_size=10), 0) == [list(range(10))]
    with pytest.raises(ValueError, match=r"--batch-size \(11\) must be <= the training sentences \(10\)"):
        TextFeed(corpus=corpus, block_size=11)
    with pytest.raises(ValueError, match=r"--devices \(2\) must be <= the blocks of a pass \(1\)"):
        TextFeed(corpus=corpus, block_size=10).steps_per_epoch(2)
