"""From a configuration, a pack and a tokenizer to what is trained: towers, method and feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.bundle.encoder import Modality
from models.bundle.tokens import Tokenizer
from models.config import TextEncoderConfig
from models.text.build import build_text_encoder, load_pretrained_text
from models.text.directory import read_text_directory
from models.text.encoder import TextEncoder
from models.text.served import ServedTextEncoder
from training.batches.by_length import ByLength
from training.batches.feed import Feed
from training.batches.text_blocks import TextFeed
from training.batches.text_corpus import TextCorpus, tokenise_corpus
from training.batches.text_sentences import SentenceFeed
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.method_settings import method_config, require_method
from training.methods.base import Method, MethodContext
from training.run_config import TextRunConfig
from training.streams import Streams
from training.tokenizer import train_tokenizer

__all__ = ["TextTraining", "build_text_training", "find_tokenizer", "split_sentences"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTraining:
    """Everything that a run needs, before its first step."""

    method: Method
    served: ServedTextEncoder
    """The method's towers, as they are kept and served."""
    encoder: TextEncoderConfig
    """A tower's shape."""
    settings: Any
    """The method's, complete."""
    feed: Feed


def find_tokenizer(config: TextRunConfig, pack: TextPack) -> Tokenizer:
    """Returns the tokenizer of a run: of the directory to start from, or trained on the training documents.

    Args:
        config: The run.
        pack: Its texts.

    Returns:
        The tokenizer.

    Raises:
        ValueError: The directory holds none, or the documents are too few.
    """
    if config.init is not None:
        return Tokenizer.load(read_text_directory(config.init)[1])
    sentences = (sentence for document in split_sentences(pack, Split.TRAIN) for sentence in document)
    return train_tokenizer(sentences, config.tokenizer)


def build_text_training(config: TextRunConfig, pack: TextPack, tokenizer: Tokenizer) -> TextTraining:
    """Builds what a configuration asks for; equal for equal seeds.

    Args:
        config: The run.
        pack: Its texts.
        tokenizer: As `find_tokenizer` gives it.

    Returns:
        Encoder, method and feed.

    Raises:
        ValueError: Configuration and data do not go together.
    """
    entry = require_method(config.method, Modality.TEXT)
    towers, encoder = _towers(config, tokenizer)
    settings = method_config(entry, config.settings)
    corpus = tokenise_corpus(split_sentences(pack, Split.TRAIN), tokenizer, max_tokens=encoder.max_tokens)
    feed = _feed(config, corpus, shuffled=entry.load().needs.shuffled)
    context = MethodContext(
        dataset_size=feed.item_count,
        batch_size=config.batch_size * config.fit.device.devices,
        special_ids=tokenizer.special_ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Streams(config.fit.loop.seed).number("heads"))
        method: Method = entry.load()([ByLength(tower) for tower in towers], settings, context=context)
    served = ServedTextEncoder(towers, normalize=encoder.normalize)
    return TextTraining(method=method, served=served, encoder=encoder, settings=settings, feed=feed)


def split_sentences(pack: TextPack, split: Split) -> list[Sequence[str]]:
    """Returns the sentences of a split's documents.

    Args:
        pack: The texts.
        split: Which of them.

    Returns:
        A document's sentences, in order, for each document.
    """
    return [document.sentences for document in pack.documents(split)]


def _towers(config: TextRunConfig, tokenizer: Tokenizer) -> tuple[list[TextEncoder], TextEncoderConfig]:
    if config.init is not None:
        pretrained, encoder = load_pretrained_text(config.init)
        towers = [pretrained]
    else:
        encoder = replace(config.encoder or TextEncoderConfig(), vocab_size=tokenizer.vocab_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Streams(config.fit.loop.seed).number("weights"))
            towers = [build_text_encoder(encoder) for _ in range(encoder.towers)]
    return [tower.freeze(config.freeze) for tower in towers], encoder


def _feed(config: TextRunConfig, corpus: TextCorpus, *, shuffled: bool) -> Feed:
    """Returns what the method wants: single sentences in random order, or blocks of contiguous ones."""
    if not shuffled:
        return TextFeed(corpus=corpus, block_size=config.batch_size, shuffle_documents=config.shuffle_documents)
    if not config.shuffle_documents:
        raise ValueError(f"--fixed-order: --method {config.method} takes sentences in random order; leave it out")
    return SentenceFeed(corpus=corpus, sentences_per_step=config.batch_size)
