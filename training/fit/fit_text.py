"""Trains a sentence encoder from a configuration: pack, tokenizer, training, run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.bundle.encoder import Modality
from models.bundle.tokens import Tokenizer
from training.batches.text_corpus import tokenise_corpus
from training.config import SCHEMA_VERSION
from training.config_json import encode
from training.corpora.pack_source import pack_text_source
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.evaluator import Evaluator, NextSentenceEvaluator
from training.fit.fit import FitResult, Sitting, is_first_process, train
from training.fit.method_settings import require_method
from training.fit.reporting import Reporter, SilentReporter
from training.fit.text_training import TextTraining, build_text_training, find_tokenizer, split_sentences
from training.publish import publish_text
from training.run_config import TextRunConfig
from training.run_folder import RunFolder

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
    require_method(config.method, Modality.TEXT)
    run = RunFolder(config.out)
    if is_first_process():
        run.begin(source=config.data, resume=resume, overwrite=overwrite)
    pack = _open_pack(config.data, run)
    tokenizer = _tokenizer(config, pack, run, reporter)
    training = build_text_training(config, pack, tokenizer)
    sitting = Sitting(
        run=run,
        record=_record(config, pack, training),
        kept=training.served.towers,
        evaluator=_evaluator(pack, tokenizer, training),
        reporter=reporter,
        resume=resume,
    )
    return train(training.method, training.feed, config.fit, sitting)


def _open_pack(data: Path, run: RunFolder) -> TextPack:
    if (data / _MANIFEST).is_file():
        return TextPack.open(data)
    if not run.pack.is_dir():
        pack_text_source(str(data), run.pack)
    return TextPack.open(run.pack)


def _tokenizer(config: TextRunConfig, pack: TextPack, run: RunFolder, reporter: Reporter) -> Tokenizer:
    """Returns the run's tokenizer: as it lies there, or as it is found for the run and put there."""
    if not run.tokenizer.is_dir():
        if config.init is None:
            reporter.note("training a tokenizer on the training documents")
        tokenizer = find_tokenizer(config, pack)
        run.tokenizer.mkdir(parents=True)
        publish_text(run.tokenizer / "tokenizer.json", tokenizer.to_json())
    return Tokenizer.load(run.tokenizer)


def _evaluator(pack: TextPack, tokenizer: Tokenizer, training: TextTraining) -> Evaluator | None:
    """Returns next-sentence retrieval on the validation documents, where two sentences of one stand side by side."""
    documents = [sentences for sentences in split_sentences(pack, Split.VALIDATION) if len(set(sentences)) > 1]
    if not documents:
        return None
    corpus = tokenise_corpus(documents, tokenizer, max_tokens=training.encoder.max_tokens)
    return NextSentenceEvaluator(corpus=corpus, served=training.served)


def _record(config: TextRunConfig, pack: TextPack, training: TextTraining) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "modality": str(Modality.TEXT),
        "run": encode(config),
        "method": encode(training.settings),
        "encoder": training.encoder.to_json(),
        "data": {"path": str(pack.path.absolute()), "fingerprint": pack.fingerprint},
    }
