"""sentence-transformers opens our text bundles, with its torch and its onnx backend, and gives the same vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle.encoder import Purpose
from models.bundle.load import load_bundle
from models.bundle.manifest import Limits, Prompts
from models.bundle.tokens import Tokenizer
from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from tests.e2e.environments import make_environment, run
from tests.e2e.real_inputs import real_texts
from training.corpora.catalogue import fetch
from training.export.directory_source import read_directory
from training.export.export import export_source
from training.export.source import ExportConfig, ExportSource
from training.export.text_files import write_text_files

READER = Path(__file__).with_name("sentence_transformers_reader.py")
# Its `onnx` extra pins an older transformers than ours, hence the environment of its own.
REQUIREMENTS = ("sentence-transformers[onnx]==5.7.0", "transformers==4.57.6")
TEXTS = 200


@dataclass(frozen=True, slots=True)
class Outside:
    """The environment, and the texts it is given."""

    python: Path
    folder: Path
    texts: list[str]

    def compare(self, bundle: Path) -> None:
        """Opens a bundle there and here, and compares vectors as documents and as queries."""
        out = self.folder / bundle.name
        out.mkdir()
        texts_file = self.folder / "texts.json"
        texts_file.write_text(json.dumps(self.texts), encoding="utf-8")
        run(self.python, READER, bundle, texts_file, out, cwd=self.folder)

        encoder = load_bundle(bundle).encoders["text"]
        for backend in ("torch", "onnx"):
            described = json.loads((out / f"{backend}.json").read_text(encoding="utf-8"))
            assert described == {"max_seq_length": encoder.info.max_tokens, "similarity": "cosine"}
            for purpose, suffix in ((Purpose.DOCUMENT, ""), (Purpose.QUERY, "-query")):
                ours = np.concatenate([encoder.run([encoder.prepare(text, purpose=purpose)]) for text in self.texts])
                theirs = np.load(out / f"{backend}{suffix}.npy")
                deviation = float(np.abs(ours - theirs).max())
                assert deviation <= 1e-5, f"{bundle.name}, {backend}{suffix}"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    folder = tmp_path_factory.mktemp("sentence-transformers")
    programs = make_environment(folder / "environment", *REQUIREMENTS)
    return Outside(programs / "python", folder, real_texts(TEXTS))


@pytest.mark.slow
def test_the_minilm_bundle_opens_outside_with_the_same_vectors(outside: Outside, tmp_path: Path) -> None:
    config = ExportConfig(query_prompt="query: ")
    export_source(read_directory(fetch("minilm")), tmp_path / "minilm", config)
    outside.compare(tmp_path / "minilm")


@pytest.mark.slow
@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_transformer_trained_here_opens_outside_with_the_same_vectors(
    outside: Outside, tmp_path: Path, pooling: Pooling
) -> None:
    """Fresh weights serve as well as trained ones: what is compared is the form on disk."""
    minilm = read_directory(fetch("minilm"))
    config = TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER,
        vocab_size=30_522,
        width=64,
        layers=2,
        heads=4,
        max_tokens=48,
        pooling=pooling,
    )
    torch.manual_seed(0)
    served = ServedTextEncoder([build_text_encoder(config)]).eval()
    export_source(_trained_here(minilm, served, config), tmp_path / f"small-{pooling}", ExportConfig())
    outside.compare(tmp_path / f"small-{pooling}")


def _trained_here(minilm: ExportSource, served: ServedTextEncoder, config: TextEncoderConfig) -> ExportSource:
    tokenizer = minilm.preparation
    assert isinstance(tokenizer, Tokenizer)

    def write(folder: Path, prompts: Prompts) -> None:
        write_text_files(folder, served, config, tokenizer=tokenizer, prompts=prompts)

    return replace(
        minilm,
        served=served,
        limits=Limits(max_tokens=config.max_tokens),
        pooling=str(config.pooling),
        write_files=write,
    )
