"""A sentence encoder as it is served: tokenizer and graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Prepared, Purpose
from models.bundle.manifest import Prompts
from models.bundle.session import OnnxSession
from models.bundle.tokens import Tokenizer

__all__ = ["TEXT_INPUTS", "TEXT_OUTPUT", "OnnxTextEncoder"]

TEXT_INPUTS = ("input_ids", "attention_mask")
"""The graph's inputs, both `[n, t]` int64."""
TEXT_OUTPUT = "sentence_embedding"
"""The graph's output that is served, `[n, dimension]`."""


class OnnxTextEncoder:
    """Embeds texts; safe to call from several threads.

    Args:
        session: The graph.
        tokenizer: Splits texts as in training.
        info: What callers may know.
        prompts: What is written before queries and documents.
    """

    def __init__(self, session: OnnxSession, tokenizer: Tokenizer, *, info: EncoderInfo, prompts: Prompts) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._info = info
        self._prompts = prompts

    @property
    def info(self) -> EncoderInfo:
        """What callers may know of it."""
        return self._info

    def with_info(self, info: EncoderInfo) -> OnnxTextEncoder:
        """Returns this encoder under other names; the graph is shared.

        Args:
            info: What callers may know of it.

        Returns:
            The encoder.
        """
        return OnnxTextEncoder(self._session, self._tokenizer, info=info, prompts=self._prompts)

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        """Tokenizes a text behind its prompt.

        Args:
            item: The text.
            purpose: Chooses the prompt.
            truncate: Whether an over-long text is cut; otherwise it is refused.

        Returns:
            The ids; the cost is their number.

        Raises:
            ValueError: The item is no text, gives no token, or is too long and may not be cut.
        """
        if not isinstance(item, str):
            raise ValueError(
                f"encoder '{self._info.name}' reads texts, not images; send a text or name another encoder"
            )
        prompt = self._prompts.query if purpose is Purpose.QUERY else self._prompts.document
        text = self._tokenizer.encode(item, max_tokens=self._info.max_tokens, prompt=prompt, truncate=truncate)
        return Prepared(text.ids, len(text.ids), text.truncated)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Embeds prepared texts in one call of the graph, padded to the longest.

        Args:
            batch: At least one prepared text.

        Returns:
            `[n, dimension]`, in the order given.
        """
        rows = [np.asarray(item.array, dtype=np.int64) for item in batch]
        return self._session.run(TEXT_OUTPUT, dict(zip(TEXT_INPUTS, self._tokenizer.pad(rows), strict=True)))
