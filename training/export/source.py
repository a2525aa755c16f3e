"""What is exported, whether it comes from a run or from a directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.image.served import ServedImageEncoder
from models.text.served import ServedTextEncoder

__all__ = ["ExportConfig", "ExportSource", "ReferenceSample", "library_versions"]

_LIBRARIES = ("diptych", "numpy", "onnx", "onnxruntime", "pillow", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceSample:
    """Inputs like those it was trained on."""

    items: Sequence[str | bytes]
    """Texts, or encoded images; at least 2."""
    source: str
    """What they were taken from, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSource:
    """A trained encoder and what belongs to it."""

    modality: Modality
    served: ServedTextEncoder | ServedImageEncoder
    """In evaluation mode, on the CPU, fp32."""
    preparation: Tokenizer | ImagePreprocessing
    limits: Limits
    pooling: str
    metric: str
    prompts: Prompts
    provenance: Provenance
    write_files: Callable[[Path, Prompts], None]
    """Writes the convention's files (configuration, tokenizer, weights) into a folder."""
    reference: ReferenceSample | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """How it is exported."""

    name: str | None = None
    """What the encoder is called in requests; None: after the bundle's folder."""
    version: str = "1"
    """The bundle's, for people."""
    precisions: tuple[str, ...] = ("fp32",)
    """Graphs to make; fp32 is always made."""
    query_prompt: str | None = None
    """Written before every query; None: what the source states."""
    document_prompt: str | None = None
    """Written before every document; None: what the source states."""
    results: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """Rows of evaluation results to carry along."""
    reference: ReferenceSample | None = None
    """None: what the source has at hand."""
    overwrite: bool = False
    """Whether a bundle that is there may be replaced."""

    def __post_init__(self) -> None:
        """Checks the precisions."""
        unknown = [precision for precision in self.precisions if precision not in {"fp32", "int8"}]
        if unknown:
            raise ValueError(f"precision '{unknown[0]}' is unknown; it must be fp32 or int8")

    def choose_prompts(self, stated: Prompts) -> Prompts:
        """Returns the prompts of the bundle: those given here, else those the source states.

        Args:
            stated: The source's.

        Returns:
            Both prompts.
        """
        return Prompts(
            query=stated.query if self.query_prompt is None else self.query_prompt,
            document=stated.document if self.document_prompt is None else self.document_prompt,
        )


def library_versions() -> dict[str, str]:
    """Returns the version of each library that has a part in an export, by name."""
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
