"""From text to token ids: the one implementation that training, export and serving share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tokenizers
from numpy.typing import NDArray

__all__ = ["TOKENIZER_FILE", "TextTooLongError", "TokenizedText", "Tokenizer"]

TOKENIZER_FILE: Final = "tokenizer.json"
_PAD_TOKENS: Final = ("[PAD]", "<pad>", "<|pad|>", "<PAD>")


class TextTooLongError(ValueError):
    """A text over the encoder's limit, where cutting was not allowed."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text as ids."""

    ids: NDArray[np.int64]
    """`[t]`, special tokens included, not padded; at least one."""
    truncated: bool
    """Whether the end of the text was cut off."""


class Tokenizer:
    """A `tokenizer.json`, without its own truncation and padding: both are asked for per call.

    No call changes its state, so that threads may share one.

    Args:
        inner: The tokenizer of the `tokenizers` library; it is copied.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        padding = inner.padding
        self._inner = tokenizers.Tokenizer.from_str(inner.to_str())
        self._inner.no_truncation()
        self._inner.no_padding()
        self._special_count = self._inner.num_special_tokens_to_add(False)
        self._pad_id = int(padding["pad_id"]) if padding else self._find_pad_id()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads a tokenizer from disk.

        Args:
            path: A `tokenizer.json`, or the folder that holds one.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no tokenizer.
        """
        file = Path(path) / TOKENIZER_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no tokenizer at {file}; a fast tokenizer's {TOKENIZER_FILE} is needed")
        try:
            return cls(tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8")))
        except Exception as error:  # the library raises bare Exception for any malformed content
            raise ValueError(f"{file} is no tokenizer of the tokenizers library: {error}") from error

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    @property
    def pad_id(self) -> int:
        """Id that fills short rows; what stands there is masked."""
        return self._pad_id

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that it puts around every text, such as those of [CLS] and [SEP]; may be none."""
        encoding = self._inner.encode("")
        marks = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return tuple(int(token_id) for token_id, special in marks if special)

    def to_json(self) -> str:
        """Returns the content of its `tokenizer.json`, without truncation and padding."""
        return str(self._inner.to_str(pretty=True))

    def encode(self, text: str, *, max_tokens: int, prompt: str = "", truncate: bool = True) -> TokenizedText:
        """Turns one text into ids.

        Args:
            text: The text.
            max_tokens: Longest result, special tokens included.
            prompt: What is written before the text, as the encoder was trained.
            truncate: Whether the end of an over-long text is cut off; otherwise it is refused.

        Returns:
            The ids, special tokens included.

        Raises:
            TextTooLongError: The text is too long and `truncate` is false.
            ValueError: The text gives no token at all, or is not valid Unicode.
        """
        encoding = self._inner.encode(_checked(prompt + text), add_special_tokens=False)
        return self._finish(encoding, max_tokens, truncate)

    def encode_batch(
        self, texts: Sequence[str], *, max_tokens: int, prompt: str = "", truncate: bool = True
    ) -> list[TokenizedText]:
        """Turns many texts into ids, on all cores; equal to `encode` one by one.

        Args:
            texts: The texts.
            max_tokens: As in `encode`.
            prompt: As in `encode`.
            truncate: As in `encode`.

        Returns:
            One result a text, in order.

        Raises:
            TextTooLongError: A text is too long and `truncate` is false.
            ValueError: A text gives no token at all, or is not valid Unicode.
        """
        encodings = self._inner.encode_batch([_checked(prompt + text) for text in texts], add_special_tokens=False)
        return [self._finish(encoding, max_tokens, truncate) for encoding in encodings]

    def pad(self, rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stacks rows of ids, filled on the right to the longest.

        Args:
            rows: At least one row `[t_i]`.

        Returns:
            Ids and attention mask (1 for tokens, 0 for filling), both `[n, max t_i]`.
        """
        width = max(len(row) for row in rows)
        input_ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            input_ids[number, : len(row)] = row
            attention_mask[number, : len(row)] = 1
        return input_ids, attention_mask

    def _finish(self, encoding: tokenizers.Encoding, max_tokens: int, truncate: bool) -> TokenizedText:
        room = max_tokens - self._special_count
        if room < 1:
            raise ValueError(f"max_tokens ({max_tokens}) leaves no room beside {self._special_count} special tokens")
        count = len(encoding.ids)
        if count > room and not truncate:
            size = f"{count + self._special_count} tokens, the limit is {max_tokens}"
            raise TextTooLongError(f"the text has {size}; shorten it or allow truncation")
        if count > room:
            encoding.truncate(room)
        ids = np.asarray(self._inner.post_process(encoding).ids, dtype=np.int64)
        if not len(ids):
            raise ValueError("the text is empty: it gives no token")
        return TokenizedText(ids, count > room)

    def _find_pad_id(self) -> int:
        found = (self._inner.token_to_id(token) for token in _PAD_TOKENS)
        return next((int(token_id) for token_id in found if token_id is not None), 0)


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode: a lone surrogate at character {error.start}") from error
    return text
