"""Which failures are the user's to mend, and how they are said on one line."""

from __future__ import annotations

import sys

__all__ = ["describe_error"]


def describe_error(error: Exception) -> str | None:
    """Returns the sentence to print for an expected failure, or None for a defect, which keeps its traceback.

    Args:
        error: What a verb raised.

    Returns:
        The message: bad values, files and calls that failed, in their own words.
    """
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    # A ServingError or RpcError can only have been raised where its module is loaded already.
    serving_errors = sys.modules.get("serving.errors")
    if serving_errors is not None and isinstance(error, serving_errors.ServingError):
        return str(error)
    client_errors = sys.modules.get("diptych.client.errors")
    if client_errors is not None and isinstance(error, client_errors.ClientError):
        return str(error)
    return None
