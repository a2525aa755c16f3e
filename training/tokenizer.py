"""Trains a tokenizer from scratch, on training documents only: WordPiece or byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from models.bundle.tokens import Tokenizer
from training.run_config import TokenizerConfig, TokenizerKind

__all__ = ["train_tokenizer"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's, in its order, so that padding is 0."""
_CONTINUED = "##"


def train_tokenizer(sentences: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learns how to cut words.

    A text becomes `[CLS] … [SEP]`. WordPiece writes what it cannot cut as `[UNK]`; BPE falls back to bytes, so that
    nothing is unknown to it. Equal sentences give an equal tokenizer, in every process.

    Args:
        sentences: Of the training documents.
        config: Kind, size and case.

    Returns:
        The tokenizer.

    Raises:
        ValueError: There is no text to learn from.
    """
    texts = [sentence for sentence in sentences if sentence.strip()]
    if not texts:
        raise ValueError("there is no text to learn a tokenizer from; check the training documents")
    inner = _train_bpe(texts, config) if config.tokenizer_kind is TokenizerKind.BPE else _train_wordpiece(texts, config)
    inner.add_special_tokens(list(_SPECIAL))
    ids = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return Tokenizer(inner)


def _train_bpe(texts: Sequence[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if config.lowercase else [])]
    inner.normalizer = normalizers.Sequence(steps)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return inner


def _train_wordpiece(texts: Sequence[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=config.lowercase, strip_accents=config.lowercase)
    draft = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    draft.normalizer = normalizer
    draft.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers continued characters in the order of a randomly seeded hash map, and breaks ties between
    # merges by these numbers. Named beforehand they are numbered as named, and two trainings agree.
    continued = [_CONTINUED + character for character in _continued_characters(texts, draft)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*_SPECIAL, *continued],
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    # A fresh model of the same vocabulary, in which `##a` in a text is no special token.
    inner = tokenizers.Tokenizer(models.WordPiece(draft.get_vocab(), unk_token="[UNK]"))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return inner


def _continued_characters(texts: Sequence[str], draft: tokenizers.Tokenizer) -> list[str]:
    """Returns the characters that stand inside words, sorted."""
    chunks = {chunk for text in texts for chunk in draft.normalizer.normalize_str(text).split()}
    words = (word for chunk in chunks for word, _ in draft.pre_tokenizer.pre_tokenize_str(chunk))
    return sorted({character for word in words for character in word[1:]})
