"""Subjects that are torch modules: runs, encoders in a directory, untrained ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle.pixels import ImagePreprocessing, decode_image, normalise_image, resize_image
from models.bundle.tokens import Tokenizer
from models.image.served import ServedImageEncoder
from models.text.served import ServedTextEncoder
from training.evaluation.batching import group_by_length
from training.evaluation.layers import ImageLayer
from training.evaluation.subjects import Advance, SubjectInfo

__all__ = ["TorchPixelEncoder", "TorchTextSubject", "TorchTowerSubject"]

_TOKENS_PER_BATCH = 8192


class TorchTextSubject:
    """A sentence encoder in torch, in eval mode.

    Args:
        info: What a result row says of it.
        served: The encoder as it is served; put into eval mode here.
        tokenizer: Cuts texts as in training.
        max_tokens: Longest text, special tokens included.
        prompt: What is written before every text, as documents are served.
    """

    def __init__(
        self,
        info: SubjectInfo,
        served: ServedTextEncoder,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        prompt: str = "",
    ) -> None:
        self._info = info
        self.served = served.eval()
        """The encoder as it is served."""
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._prompt = prompt

    @property
    def info(self) -> SubjectInfo:
        """What a result row says of it."""
        return self._info

    def embed_texts(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float32]:
        """Embeds texts as they are served.

        Args:
            texts: At least one; over-long ones are cut.
            advance: Told of progress.

        Returns:
            `[n, d]`, in the order given.
        """
        return self.run_batches(texts, lambda ids, mask: (self.served(ids, mask)[1],), advance)[0]

    def run_batches(
        self,
        texts: Sequence[str],
        encode: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        advance: Advance | None = None,
    ) -> list[NDArray[np.float32]]:
        """Runs texts through part of the encoder, in batches of similar length.

        Args:
            texts: At least one; over-long ones are cut.
            encode: From ids and mask `[n, t]` to one or more `[n, d]`.
            advance: Told of progress.

        Returns:
            One `[n, d]` for each that `encode` gives, in the order of the texts.
        """
        tokens = self._tokenizer.encode_batch(texts, max_tokens=self._max_tokens, prompt=self._prompt)
        device = next(self.served.parameters()).device
        order: list[int] = []
        parts: list[tuple[Tensor, ...]] = []
        with torch.inference_mode():
            for rows in group_by_length([len(token.ids) for token in tokens], budget=_TOKENS_PER_BATCH):
                ids, mask = self._tokenizer.pad([tokens[row].ids for row in rows])
                outputs = encode(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
                parts.append(tuple(output.float().cpu() for output in outputs))
                order += rows
                if advance is not None:
                    advance(len(rows))
        inverse = np.argsort(np.asarray(order))
        return [torch.cat(column).numpy()[inverse] for column in zip(*parts, strict=True)]


class TorchTowerSubject(TorchTextSubject):
    """A sentence encoder whose training compares f and g as they are, not by the served cosine."""

    def embed_towers(
        self, texts: Sequence[str], advance: Advance | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeds texts as training compares them: f and g, one and the same where they are tied.

        Args:
            texts: At least one; over-long ones are cut.
            advance: Told of progress.

        Returns:
            f and g of each text, not normalised, `[n, d]` each.
        """
        towers = self.served.towers
        outputs = self.run_batches(texts, lambda ids, mask: tuple(tower(ids, mask).pooled for tower in towers), advance)
        return outputs[0], outputs[-1]


class TorchPixelEncoder:
    """An image encoder in torch, in eval mode.

    Args:
        served: The encoder as it is served, or a layer of it; put into eval mode here.
        preprocessing: What is done to an image before it.
    """

    def __init__(self, served: ServedImageEncoder | ImageLayer, preprocessing: ImagePreprocessing) -> None:
        self._served = served.eval()
        self._preprocessing = preprocessing

    @property
    def size_px(self) -> int:
        """Side of the square it sees."""
        return self._preprocessing.size_px

    def embed_originals(self, originals: Sequence[bytes]) -> NDArray[np.float32]:
        """Embeds a batch of encoded images.

        Args:
            originals: At least one.

        Returns:
            `[n, d]`, unit rows.
        """
        return self.embed_rgb([decode_image(original, self._preprocessing) for original in originals])

    def embed_rgb(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeds a batch of images, each `[h, w, 3]`.

        Args:
            images: At least one; sizes may differ.

        Returns:
            `[n, d]`, unit rows.
        """
        settings = self._preprocessing
        pixels = np.stack([normalise_image(resize_image(image, settings), settings) for image in images])
        device = next(self._served.parameters()).device
        with torch.inference_mode():
            embeddings: Tensor = self._served(torch.from_numpy(pixels).to(device))
        return embeddings.float().cpu().numpy()
