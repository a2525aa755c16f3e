"""Why an encoder is not exported."""

from __future__ import annotations

__all__ = ["ExportError"]


class ExportError(ValueError):
    """An encoder whose graph does not do what the encoder does, or loses too much; there is no bundle."""
