"""What is exported, whether it comes from a run or from a directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from models.bundle.encoder import Modality
from models.bundle.manifest import Limits, Prompts, Provenance, Quantisation
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.image.served import ServedImageEncoder
from models.text.served import ServedTextEncoder

__all__ = ["LEAST_MEASURED", "ExportConfig", "ExportSource", "ReferenceSample", "library_versions"]

LEAST_MEASURED: Final = 100
"""Different inputs below which retrieval is not measured: among fewer, ten neighbours say little."""

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
    """Held out from the training; vectors and retrieval are measured on it."""
    calibration: Callable[[], ReferenceSample | None] | None = None
    """Samples what it was trained on, where that is at hand."""


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
    """What vectors and retrieval are measured on; None: what the source has at hand."""
    quantisation: Quantisation = Quantisation.DYNAMIC
    """How the int8 graph is made, where one is asked for: `dynamic` or `static`."""
    calibration: ReferenceSample | None = None
    """What static int8 takes its scales from; None: what the source has at hand."""
    max_int8_loss: float = 0.1
    """The most of the fp32 graph's 10 nearest neighbours that the int8 graph may miss, in [0, 1]."""
    truncate_to: tuple[int, ...] = ()
    """Widths that vectors may be cut to; none given: those of the dial within `max_dimension_loss`."""
    max_dimension_loss: float = 0.1
    """The most of the 10 nearest neighbours that a width may miss to be offered unasked, in [0, 1]."""
    overwrite: bool = False
    """Whether a bundle that is there may be replaced."""

    def __post_init__(self) -> None:
        """Checks precisions and limits."""
        unknown = [precision for precision in self.precisions if precision not in {"fp32", "int8"}]
        if unknown:
            raise ValueError(f"precision '{unknown[0]}' is unknown; it must be fp32 or int8")
        if self.quantisation is Quantisation.NONE:
            raise ValueError("quantisation 'none' makes no int8 graph; it must be dynamic or static")
        for name, value in (("max_int8_loss", self.max_int8_loss), ("max_dimension_loss", self.max_dimension_loss)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} ({value}) must lie in [0, 1]: a share of the 10 nearest neighbours")

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
