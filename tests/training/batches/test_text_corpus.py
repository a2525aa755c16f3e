from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from training.batches.text_corpus import TextCorpus

Corpus = Callable[..., TextCorpus]


def test_sentences_lie_end_to_end_with_their_documents(corpus_of: Corpus) -> None:
    corpus = corpus_of(["a bb", "ccc"], [], ["a bb", "d"])

    assert corpus.tokens.tolist() == [11, 12, 13, 11, 12, 11]
    assert corpus.starts.tolist() == [0, 2, 3, 5, 6]
    assert corpus.documents.tolist() == [0, 0, 2, 2]
    assert corpus.document_starts.tolist() == [0, 2, 4]
    assert corpus.tokens.dtype == np.int32


def test_equal_texts_and_only_they_have_equal_numbers(corpus_of: Corpus) -> None:
    # `d` and `x` have equal tokens but are different texts.
    corpus = corpus_of(["a", "d"], ["a", "x"])

    assert (corpus.sentences[:, None] == corpus.sentences[None, :]).tolist() == [
        [True, False, True, False],
        [False, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]


def test_long_sentences_are_cut_and_blank_ones_left_out(corpus_of: Corpus) -> None:
    corpus = corpus_of(["a bb ccc dddd", "  ", "e"], max_tokens=2)

    assert corpus.tokens.tolist() == [11, 12, 11]
    assert len(corpus) == 2


def test_rows_are_padded_to_the_longest_of_them(corpus_of: Corpus) -> None:
    corpus = corpus_of(["a bb ccc", "dddd", "ee e"])

    ids, mask = corpus.pad(np.array([1, 2]))

    assert ids.tolist() == [[14, 3], [12, 11]]
    assert mask.tolist() == [[1, 0], [1, 1]]
    assert ids.dtype == mask.dtype == np.int64


def test_an_empty_corpus_is_refused(corpus_of: Corpus) -> None:
    with pytest.raises(ValueError, match="no sentence to train on"):
        corpus_of([" "], [])
