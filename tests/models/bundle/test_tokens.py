from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Inner
from tokenizers.processors import Sequence

from models.bundle.tokens import TextTooLongError, Tokenizer
from tests.models.bundle.tiny_bundle import make_tokenizer


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(make_tokenizer())


def ids_of(*words: str) -> list[int]:
    inner = make_tokenizer()
    return [inner.get_vocab()[word] for word in words]


def test_special_tokens_frame_the_text(tokenizer: Tokenizer) -> None:
    text = tokenizer.encode("a cat", max_tokens=8)
    assert text.ids.dtype == np.int64
    assert text.ids.tolist() == ids_of("[CLS]", "a", "cat", "[SEP]")
    assert not text.truncated


def test_the_frame_is_known_by_its_ids(tokenizer: Tokenizer) -> None:
    assert list(tokenizer.special_ids) == ids_of("[CLS]", "[SEP]")
    bare = make_tokenizer()
    bare.post_processor = Sequence([])
    assert Tokenizer(bare).special_ids == ()


def test_an_over_long_text_loses_its_end_and_keeps_its_frame(tokenizer: Tokenizer) -> None:
    text = tokenizer.encode("one two three four", max_tokens=4)
    assert text.ids.tolist() == ids_of("[CLS]", "one", "two", "[SEP]")
    assert text.truncated


def test_truncation_equals_that_of_the_library() -> None:
    inner = make_tokenizer()
    text = "a dog sat on the mat by the door"
    for limit in range(3, 12):
        library = Inner.from_str(inner.to_str())
        library.enable_truncation(limit)
        assert Tokenizer(inner).encode(text, max_tokens=limit).ids.tolist() == library.encode(text).ids


def test_a_text_that_just_fits_is_not_truncated(tokenizer: Tokenizer) -> None:
    assert not tokenizer.encode("one two", max_tokens=4, truncate=False).truncated


def test_an_over_long_text_that_may_not_be_cut_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextTooLongError, match="the text has 6 tokens, the limit is 5; shorten it or allow truncation"):
        tokenizer.encode("one two three four", max_tokens=5, truncate=False)


def test_the_prompt_comes_first_and_counts(tokenizer: Tokenizer) -> None:
    text = tokenizer.encode("a cat", max_tokens=4, prompt="query: ")
    assert text.ids.tolist() == ids_of("[CLS]", "query:", "a", "[SEP]")
    assert text.truncated


def test_a_tokenizer_file_that_pads_and_truncates_does_neither_here(tmp_path: Path) -> None:
    inner = make_tokenizer()
    inner.enable_padding(length=20, pad_id=7, pad_token="[PAD]")
    inner.enable_truncation(3)
    inner.save(str(tmp_path / "tokenizer.json"))

    loaded = Tokenizer.load(tmp_path)

    assert loaded.encode("one two three", max_tokens=9).ids.tolist() == ids_of("[CLS]", "one", "two", "three", "[SEP]")
    assert loaded.pad_id == 7
    assert '"truncation": null' in loaded.to_json()


def test_batches_equal_single_texts(tokenizer: Tokenizer) -> None:
    texts = ["a cat", "one two three four five six", "stars"]
    batch = tokenizer.encode_batch(texts, max_tokens=5, prompt="the ")
    for text, found in zip(texts, batch, strict=True):
        wanted = tokenizer.encode(text, max_tokens=5, prompt="the ")
        assert found.ids.tolist() == wanted.ids.tolist()
        assert found.truncated == wanted.truncated


def test_padding_fills_on_the_right_and_is_masked(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.pad([np.array([2, 5, 3]), np.array([2])])
    assert ids.tolist() == [[2, 5, 3], [2, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_the_vocabulary_is_counted(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == make_tokenizer().get_vocab_size()
    assert tokenizer.pad_id == 0


def test_a_text_that_gives_no_token_is_refused() -> None:
    inner = make_tokenizer()
    inner.post_processor = None
    with pytest.raises(ValueError, match="the text is empty"):
        Tokenizer(inner).encode("  ", max_tokens=4)


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="not valid Unicode"):
        tokenizer.encode("a \ud800", max_tokens=4)
    with pytest.raises(ValueError, match="not valid Unicode"):
        tokenizer.encode_batch(["a", "\ud800"], max_tokens=4)


def test_a_limit_without_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"max_tokens \(2\) leaves no room beside 2 special tokens"):
        tokenizer.encode("a", max_tokens=2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no tokenizer at "):
        Tokenizer.load(tmp_path)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")
