"""Torch encoders are measured in eval mode, with their prompt, in the order given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig, TextArchitecture, TextEncoderConfig
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from tests.models.bundle.tiny_bundle import TEXTS, make_tokenizer
from training.evaluation.source_subjects import image_subject, text_subject
from training.evaluation.torch_subjects import TorchTextSubject


def make_text_subject(*, prompt: str = "") -> TorchTextSubject:
    tokenizer = Tokenizer(make_tokenizer())
    torch.manual_seed(0)
    config = TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER,
        vocab_size=tokenizer.vocab_size,
        width=16,
        layers=1,
        heads=2,
        max_tokens=16,
        dropout=0.5,
    )
    served = ServedTextEncoder([build_text_encoder(config)]).train()
    return text_subject(served, tokenizer, max_tokens=16, name="tiny", prompt=prompt)


def test_dropout_is_off() -> None:
    subject = make_text_subject()
    assert np.array_equal(subject.embed_texts(TEXTS), subject.embed_texts(TEXTS))


def test_a_text_alone_has_the_vector_it_has_among_others() -> None:
    subject = make_text_subject()
    alone = np.concatenate([subject.embed_texts([text]) for text in TEXTS])
    assert subject.embed_texts(TEXTS) == pytest.approx(alone, abs=1e-5)


def test_the_prompt_stands_before_every_text() -> None:
    prompted = make_text_subject(prompt="query: ").embed_texts(["a cat"])
    assert prompted == pytest.approx(make_text_subject().embed_texts(["query: a cat"]), abs=1e-6)
    assert prompted != pytest.approx(make_text_subject().embed_texts(["a cat"]), abs=1e-3)


def test_batch_norm_does_not_see_the_batch() -> None:
    torch.manual_seed(0)
    served = ServedImageEncoder(build_image_encoder(ImageEncoderConfig(image_size_px=16))).train()
    subject = image_subject(served, ImagePreprocessing(size_px=16), name="tiny")
    images = list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    alone = np.concatenate([subject.embed_rgb([image]) for image in images])
    assert subject.embed_rgb(images) == pytest.approx(alone, abs=1e-5)


def test_fingerprints_tell_weights_apart() -> None:
    one = ServedImageEncoder(build_image_encoder(ImageEncoderConfig(image_size_px=16)))
    other = ServedImageEncoder(build_image_encoder(ImageEncoderConfig(image_size_px=16)))
    prints = {
        image_subject(served, ImagePreprocessing(size_px=16), name="tiny").info.fingerprint
        for served in (one, one, other)
    }
    assert len(prints) == 2
