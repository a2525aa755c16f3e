"""Trains a sentence encoder from a configuration: pack, tokenizer, towers, method, run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
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
from training.config import SCHEMA_VERSION
from training.config_json import encode
from training.corpora.pack_source import pack_text_source
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.evaluator import Evaluator, NextSentenceEvaluator
from training.fit.fit import FitResult, Sitting, is_first_process, train
from training.fit.method_settings import method_config, require_method
from training.fit.reporting import Reporter, SilentReporter
from training.fit.run_folder import RunFolder
from training.fit.streams import Streams
from training.methods.base import Method, MethodContext
from training.publish import publish_text
from training.run_config import TextRunConfig
from training.tokenizer import train_tokenizer

__all__ = ["fit_text"]

_MANIFEST = "pack.json"


def fit_text(
    config: TextRunConfig, *, reporter: Reporter | None = None, resume: bool = False, overwrite: bool = False
) -> FitResult:
    """Trains a sentence encoder and leaves it in its run folder.

    Args:
        config: What is asked for; `data` may also be a text file, a folder of texts or a packaged set's name, which is
            then packed into the run's folder.
        reporter: Is told how it goes; silent by default.
        resume: Whether the unfinished run in the folder is to go on.
        overwrite: Whether a run that is there may be replaced.

    Returns:
        Where the run lies, and its latest figures.

    Raises:
        ValueError: Configuration, data and folder do not go together; the run collapsed or diverged.
    """
    reporter = reporter or SilentReporter()
    entry = require_method(config.method, Modality.TEXT)
    run = RunFolder(config.out)
    if is_first_process():
        run.begin(source=config.data, resume=resume, overwrite=overwrite)
    pack = _open_pack(config.data, run)
    tokenizer = _tokenizer(config, pack, run, reporter)
    towers, encoder = _towers(config, tokenizer)
    settings = method_config(entry, config.settings)
    corpus = tokenise_corpus(_sentences(pack, Split.TRAIN), tokenizer, max_tokens=encoder.max_tokens)
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
    sitting = Sitting(
        run=run,
        record=_record(config, pack, encoder, settings),
        kept=served.towers,
        evaluator=_evaluator(pack, tokenizer, served, encoder.max_tokens),
        reporter=reporter,
        resume=resume,
    )
    return train(method, feed, config.fit, sitting)


def _open_pack(data: Path, run: RunFolder) -> TextPack:
    if (data / _MANIFEST).is_file():
        return TextPack.open(data)
    if not run.pack.is_dir():
        pack_text_source(str(data), run.pack)
    return TextPack.open(run.pack)


def _sentences(pack: TextPack, split: Split) -> list[Sequence[str]]:
    return [document.sentences for document in pack.documents(split)]


def _tokenizer(config: TextRunConfig, pack: TextPack, run: RunFolder, reporter: Reporter) -> Tokenizer:
    """Returns the run's tokenizer: as it lies there, from the directory to start from, or freshly trained."""
    if not run.tokenizer.is_dir():
        if config.init is not None:
            tokenizer = Tokenizer.load(read_text_directory(config.init)[1])
        else:
            reporter.note("training a tokenizer on the training documents")
            tokenizer = train_tokenizer(
                (sentence for document in _sentences(pack, Split.TRAIN) for sentence in document), config.tokenizer
            )
        run.tokenizer.mkdir(parents=True)
        publish_text(run.tokenizer / "tokenizer.json", tokenizer.to_json())
    return Tokenizer.load(run.tokenizer)


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


def _evaluator(pack: TextPack, tokenizer: Tokenizer, served: ServedTextEncoder, max_tokens: int) -> Evaluator | None:
    """Returns next-sentence retrieval on the validation documents, where two sentences of one stand side by side."""
    documents = [sentences for sentences in _sentences(pack, Split.VALIDATION) if len(set(sentences)) > 1]
    if not documents:
        return None
    return NextSentenceEvaluator(corpus=tokenise_corpus(documents, tokenizer, max_tokens=max_tokens), served=served)


def _record(config: TextRunConfig, pack: TextPack, encoder: TextEncoderConfig, settings: Any) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "modality": str(Modality.TEXT),
        "run": encode(config),
        "method": encode(settings),
        "encoder": encoder.to_json(),
        "data": {"path": str(pack.path.absolute()), "fingerprint": pack.fingerprint},
    }
