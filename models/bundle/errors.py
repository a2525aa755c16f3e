"""Why a bundle is not served."""

from __future__ import annotations

__all__ = ["BundleError"]


class BundleError(ValueError):
    """A bundle that is incomplete, damaged, or computes something else on this machine; one sentence says which."""
