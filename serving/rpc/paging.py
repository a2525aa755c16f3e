"""Pages: sizes, opaque tokens, and lists cut by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from serving.collections.config import MAX_PAGE_RECORDS
from serving.errors import InvalidInput

__all__ = ["DEFAULT_PAGE_SIZE", "cut_page", "key_of_token", "page_size_of", "token_of_key"]

DEFAULT_PAGE_SIZE = 100
Item = TypeVar("Item")


def page_size_of(asked: int) -> int:
    """Returns how many items a page gets.

    Args:
        asked: As sent; 0 means the default, too many mean the most.

    Returns:
        A number in [1, 1000].

    Raises:
        InvalidInput: It is negative.
    """
    if asked < 0:
        raise InvalidInput(f"page_size ({asked}) must be 0 or more", page_size=asked)
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_RECORDS)


def token_of_key(key: str) -> str:
    """Returns the token of the page after an item.

    Args:
        key: The last item's name or id.

    Returns:
        A token that says nothing to callers.
    """
    return base64.urlsafe_b64encode(key.encode("utf-8")).decode("ascii")


def key_of_token(token: str) -> str:
    """Returns the name or id that a page begins after.

    Args:
        token: As sent; empty for the first page.

    Returns:
        The key; empty for the first page.

    Raises:
        InvalidInput: The token is none that this server gave.
    """
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8")
    except (UnicodeError, binascii.Error):
        raise InvalidInput("page_token is none that this server gave; take it from `next_page_token`") from None


def cut_page(items: Sequence[Item], key: Callable[[Item], str], *, size: int, after: str) -> tuple[list[Item], str]:
    """Cuts a page out of a whole list.

    Args:
        items: Sorted by key.
        key: An item's name.
        size: As `page_size_of` gave it.
        after: As `key_of_token` gave it.

    Returns:
        The page, and the token of the next one, empty on the last.
    """
    rest = [item for item in items if key(item) > after]
    page = rest[:size]
    return page, token_of_key(key(page[-1])) if len(rest) > size else ""
