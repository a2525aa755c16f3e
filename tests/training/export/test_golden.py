from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from models.bundle.pixels import decode_image
from models.bundle.tokens import Tokenizer
from tests.models.bundle.tiny_bundle import make_tokenizer
from training.export.golden import make_golden_images, make_golden_texts


def test_texts_reach_from_one_word_to_beyond_the_limit() -> None:
    tokenizer = Tokenizer(make_tokenizer())
    for limit in (8, 256, 3000):
        texts = [tokenizer.encode(text, max_tokens=limit) for text in make_golden_texts(tokenizer, max_tokens=limit)]
        lengths = [len(text.ids) for text in texts]
        assert min(lengths) == 3
        assert max(lengths) == limit
        assert any(text.truncated for text in texts)
        assert len(set(lengths)) >= (3 if limit == 8 else 8)


def test_neighbouring_texts_differ_in_length_so_that_batches_are_padded() -> None:
    tokenizer = Tokenizer(make_tokenizer())
    lengths = [len(tokenizer.encode(text, max_tokens=64).ids) for text in make_golden_texts(tokenizer, max_tokens=64)]
    assert all(first != second for first, second in zip(lengths[:-1:2], lengths[1::2], strict=False))


def test_images_are_of_mixed_size_and_mode_and_decode() -> None:
    images = make_golden_images()
    opened = [Image.open(BytesIO(data)) for data in images]
    assert {image.mode for image in opened} == {"RGB", "RGBA", "L", "P"}
    assert len({image.size for image in opened}) == len(images)
    decoded = [decode_image(data) for data in images]
    assert all(rgb.std() > 5 for rgb in decoded[:6])
    assert sum(len(data) for data in images) < 300_000


def test_images_are_equal_from_run_to_run() -> None:
    for first, second in zip(make_golden_images(), make_golden_images(), strict=True):
        np.testing.assert_array_equal(decode_image(first), decode_image(second))
