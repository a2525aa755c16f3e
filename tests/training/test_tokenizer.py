from __future__ import annotations

import pytest

from models.bundle.tokens import Tokenizer
from training.run_config import TokenizerConfig, TokenizerKind
from training.tokenizer import train_tokenizer

SENTENCES = [
    f"The {adjective} {noun} {verb}s the {other}, naïvely."
    for adjective in ("low", "lower", "lowest", "new", "newer", "newest")
    for noun in ("Reader", "Writer", "Painter")
    for verb in ("see", "hear", "follow")
    for other in ("river", "reader", "lowland")
]


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    import tokenizers

    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    return [str(inner.id_to_token(int(number))) for number in tokenizer.encode(text, max_tokens=64).ids]


def config(kind: TokenizerKind, *, lowercase: bool = True) -> TokenizerConfig:
    return TokenizerConfig(tokenizer_kind=kind, vocab_size=400, lowercase=lowercase)


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_equal_sentences_give_an_equal_tokenizer(kind: TokenizerKind) -> None:
    # The library's own WordPiece training differs from call to call.
    trained = [train_tokenizer(SENTENCES, config(kind)).to_json() for _ in range(4)]

    assert len(set(trained)) == 1


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_a_text_is_framed_and_padding_is_0(kind: TokenizerKind) -> None:
    tokenizer = train_tokenizer(SENTENCES, config(kind))

    found = pieces(tokenizer, "the reader")

    assert (found[0], found[-1]) == ("[CLS]", "[SEP]")
    assert "".join(found[1:-1]).replace("##", "").replace("Ġ", " ") in {"thereader", "the reader"}
    assert tokenizer.pad_id == 0
    assert tokenizer.vocab_size <= 400


def test_wordpiece_cuts_known_words_whole_and_knows_continuations() -> None:
    tokenizer = train_tokenizer(SENTENCES, config(TokenizerKind.WORDPIECE))

    assert pieces(tokenizer, "The READER") == ["[CLS]", "the", "reader", "[SEP]"]
    assert pieces(tokenizer, "naïvely") == pieces(tokenizer, "naively")
    assert pieces(tokenizer, "日") == ["[CLS]", "[UNK]", "[SEP]"]


def test_two_hashes_in_a_text_are_two_hashes() -> None:
    tokenizer = train_tokenizer([*SENTENCES, "# a #"], config(TokenizerKind.WORDPIECE))

    assert pieces(tokenizer, "##a")[1:3] == ["#", "#"]


def test_bpe_leaves_nothing_unknown() -> None:
    tokenizer = train_tokenizer(SENTENCES, config(TokenizerKind.BPE))

    assert "[UNK]" not in pieces(tokenizer, "日 \U0001f600 zyx")
    assert len(pieces(tokenizer, "日")) == 2 + 3  # its three bytes


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_case_is_kept_where_asked(kind: TokenizerKind) -> None:
    cased = train_tokenizer(SENTENCES, config(kind, lowercase=False))
    uncased = train_tokenizer(SENTENCES, config(kind))

    assert pieces(cased, "Reader") != pieces(cased, "reader")
    assert pieces(uncased, "Reader") == pieces(uncased, "reader")


def test_words_seen_once_are_not_learnt_whole() -> None:
    tokenizer = train_tokenizer([*SENTENCES, "quetzal"], config(TokenizerKind.WORDPIECE))

    assert len(pieces(tokenizer, "quetzal")) > 3


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text to learn a tokenizer from"):
        train_tokenizer(["", "  "], config(TokenizerKind.BPE))
