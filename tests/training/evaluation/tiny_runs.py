"""Real packs and real runs of two steps, small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertConfig, BertModel

from models.config import ImageEncoderConfig, TextEncoderConfig
from tests.models.bundle.tiny_bundle import words
from training.config import DeviceConfig, FitConfig, LoopConfig
from training.corpora.document import Document
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import Split, SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack
from training.fit.fit_image import fit_image
from training.fit.fit_text import fit_text
from training.run_config import ImageRunConfig, TextRunConfig, TokenizerConfig
from training.tokenizer import train_tokenizer

_FRACTIONS = SplitFractions(validation=0.1, test=0.4)
_TWO_STEPS = FitConfig(loop=LoopConfig(max_steps=2, collapse_threshold=0), device=DeviceConfig(threads=1, workers=1))


def make_text_pack(folder: Path) -> TextPack:
    """Thirty documents of eight random sentences, described by their words."""
    rng = np.random.default_rng(0)
    documents = []
    for number in range(30):
        sentences = tuple(" ".join(rng.choice(words(), 6)) + "." for _ in range(8))
        documents.append(Document(str(number), sentences, {"description": sentences[0], "title": str(number)}))
    return write_text_pack(documents, folder, source="words", fractions=_FRACTIONS)


def make_image_pack(folder: Path, *, size_px: int = 16) -> ImagePack:
    """Twenty concepts drawn by two vendors: noise of the concept's colour, in two classes."""
    rng = np.random.default_rng(0)
    items = []
    for concept in range(20):
        colour = rng.integers(0, 256, 3)
        for vendor in ("one", "other"):
            file = folder.parent / "originals" / f"{vendor}-{concept}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(-20, 21, (24, 24, 3))
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(file)
            attributes = {"vendor": vendor, "concept": str(concept)}
            label = "bright" if colour.sum() > 380 else "dark"
            items.append(ImageItem(file.name, file, label=label, group=str(concept), attributes=attributes))
    pack, _ = write_image_pack(
        items, folder, size_px=size_px, source="noise", root=folder.parent / "originals", fractions=_FRACTIONS
    )
    return pack


def make_bert_directory(folder: Path, pack: TextPack) -> Path:
    """A Hugging Face directory in miniature, with a tokenizer of the pack's test sentences."""
    torch.manual_seed(0)
    sentences = [sentence for document in pack.documents(Split.TEST) for sentence in document.sentences]
    tokenizer = train_tokenizer(sentences, TokenizerConfig(vocab_size=300))
    shape = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    return folder


def train_text(pack: Path, run: Path, *, towers: int = 2) -> Path:
    """Trains small GRUs for two steps, one tower by the cosine it is served with."""
    encoder = TextEncoderConfig(width=16, embedding_width=8, max_tokens=20, towers=towers)
    config = TextRunConfig(
        data=pack,
        out=run,
        settings={"similarity": "cosine", "temperature": 0.05} if towers == 1 else {},
        encoder=encoder,
        tokenizer=TokenizerConfig(vocab_size=300),
        batch_size=16,
        fit=_TWO_STEPS,
    )
    fit_text(config)
    return run


def train_images(pack: Path, run: Path) -> Path:
    """Trains the tiny ResNet for two steps."""
    encoder = ImageEncoderConfig(architecture="tiny-resnet", image_size_px=16)
    fit_image(ImageRunConfig(data=pack, out=run, encoder=encoder, batch_size=8, fit=_TWO_STEPS))
    return run
