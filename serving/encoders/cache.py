"""Vectors worth keeping: those of the items asked for last, within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import Purpose

__all__ = ["KnownItem", "VectorCache", "item_key"]

ENTRY_BYTES = 300
"""What an entry takes beside its vector: key, links, objects."""


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What an encoder gave for an item before."""

    vector: NDArray[np.float32]
    """`[dimension]`; not to be changed."""
    cost: int
    """Tokens or pixels."""
    truncated: bool
    """Whether a text was cut to the encoder's limit."""


def item_key(item: str | bytes, *, purpose: Purpose, truncate: bool) -> bytes:
    """Returns what two items have in common that one encoder gives one vector for.

    Args:
        item: A text, or an image's encoded bytes.
        purpose: Chooses the prompt, where the encoder has any.
        truncate: Whether over-long texts are cut.

    Returns:
        16 bytes, by BLAKE2b.
    """
    kind = b"t" if isinstance(item, str) else b"i"
    digest = blake2b(b"%s%s%d\0" % (kind, purpose.encode(), truncate), digest_size=16)
    digest.update(item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item)
    return digest.digest()


class VectorCache:
    """The vectors of the items asked for last; safe to use from several threads.

    Args:
        max_bytes: Bound of its memory; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._items: OrderedDict[tuple[str, bytes], KnownItem] = OrderedDict()
        self.bytes = 0
        """Memory of what is kept, estimated."""
        self.hit_count = 0
        """Items that were found."""
        self.miss_count = 0
        """Items that were not."""

    def get(self, fingerprint: str, key: bytes) -> KnownItem | None:
        """Finds an item.

        Args:
            fingerprint: Of the encoder.
            key: By `item_key`.

        Returns:
            What the encoder gave; None where it is not kept.
        """
        if not self._max_bytes:
            return None
        with self._lock:
            found = self._items.get((fingerprint, key))
            if found is None:
                self.miss_count += 1
                return None
            self.hit_count += 1
            self._items.move_to_end((fingerprint, key))
            return found

    def put(self, fingerprint: str, key: bytes, item: KnownItem) -> None:
        """Keeps an item, and drops those that were asked for longest ago where there is no room.

        Args:
            fingerprint: Of the encoder.
            key: By `item_key`.
            item: What the encoder gave; its vector is copied.
        """
        size = item.vector.nbytes + ENTRY_BYTES
        if size > self._max_bytes:
            return
        kept = KnownItem(item.vector.copy(), item.cost, item.truncated)
        with self._lock:
            before = self._items.pop((fingerprint, key), None)
            self.bytes += size - (0 if before is None else before.vector.nbytes + ENTRY_BYTES)
            self._items[fingerprint, key] = kept
            while self.bytes > self._max_bytes:
                _, dropped = self._items.popitem(last=False)
                self.bytes -= dropped.vector.nbytes + ENTRY_BYTES

    def __len__(self) -> int:
        """Returns how many items are kept."""
        return len(self._items)
