"""`diptych.json`: what a bundle is, how it was made, and what it must reproduce."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from models.bundle.dial import DimensionDial, NeighbourAgreement
from models.bundle.encoder import Modality
from models.bundle.errors import BundleError
from models.bundle.identity import digest
from models.bundle.statistics import ReferenceStatistics
from models.bundle.strict_json import StrictJsonError, decode, parse_json

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_FILE",
    "EncoderEntry",
    "FileEntry",
    "GoldenEntry",
    "GraphEntry",
    "Limits",
    "Manifest",
    "Prompts",
    "Provenance",
    "Quantisation",
    "read_manifest",
    "write_manifest",
]

MANIFEST_FILE: Final = "diptych.json"
FORMAT_VERSION: Final = 1
"""Raised by every change that an older reader would misread.

A new field does not raise it: it has a default, so that older bundles are read, and an older reader refuses a field it
does not know.
"""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_METRICS: Final = ("cosine", "inner_product", "l2")


class Quantisation(StrEnum):
    """Where an int8 graph takes the scales of its activations from."""

    NONE = "none"
    """There are none: the graph is fp32, or was made before this was recorded."""
    DYNAMIC = "dynamic"
    """From what is computed, so that a vector depends on its neighbours in the batch."""
    STATIC = "static"
    """From inputs that were embedded at export."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the bundle."""

    sha256: str
    """Of its content, lower-case hexadecimal."""
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How the encoder came to be."""

    method: str
    """Training method, such as `quick-thoughts`; `imported` for a model directory taken as it is."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The full configuration of the training, resolved."""
    data_fingerprint: str = ""
    """Of the pack it was trained on; empty where that is not known."""
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of each library that had a part, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How large an input may be."""

    max_tokens: int = 0
    """Longest text in tokens, special ones included; 0 for images."""
    image_size_px: int = 0
    """Side of the square it sees; 0 for texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """What is written before a text, as the encoder was trained; empty for none."""

    query: str = ""
    document: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphEntry:
    """One ONNX graph of an encoder, and how it stood to the golden vectors at export."""

    file: str
    """Path inside the bundle."""
    fingerprint: str
    """Identifies this exact artefact; every vector it makes carries it."""
    golden_deviation: float
    """Largest difference of a component from torch's, over all golden inputs."""
    golden_cosine: float
    """Smallest cosine to torch's vector, over all golden inputs."""
    batch_deviation: float
    """Largest difference of a component between an input alone and in a padded batch."""
    batch_tolerance: float
    """What `batch_deviation` may be wherever the graph runs."""
    quantisation: Quantisation = Quantisation.NONE
    neighbours: NeighbourAgreement | None = None
    """Of a quantised graph, on real inputs; None where none were at hand, so that only golden inputs speak for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenEntry:
    """Inputs whose vectors are known from torch, and how near the fp32 graph must come."""

    inputs: tuple[str, ...]
    """Paths inside the bundle: one JSON list of texts, or one PNG an image."""
    vectors: str
    """Path inside the bundle: `[n, dimension]` float32, as documents, from torch."""
    tolerance: float
    """Largest difference of a component that is allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderEntry:
    """One encoder of the bundle."""

    modality: Modality
    dimension: int
    metric: str
    """`cosine`, `inner_product` or `l2`."""
    limits: Limits
    pooling: str
    """`mean`, `cls`, `last` or `average` (an image's); done inside the graph."""
    prompts: Prompts
    tensors_sha256: str
    """Of the trained tensors in canonical order."""
    space: str
    """Identifies the embedding space; vectors are compared only where it is equal."""
    graphs: Mapping[str, GraphEntry]
    """By precision: `fp32`, and `int8` where it was asked for."""
    golden: GoldenEntry
    truncatable_dimensions: tuple[int, ...] = ()
    """Shorter dimensions that may be asked for: those that lose little, or that were named at export."""
    dial: DimensionDial | None = None
    """What widths and encodings keep of the neighbours; None where no real inputs were at hand."""
    statistics: ReferenceStatistics | None = None
    """Of vectors and inputs at export, to be compared with those in service; None where no sample was at hand."""

    def __post_init__(self) -> None:
        """Checks the values that must make sense together."""
        if self.dimension < 1:
            raise ValueError(f"dimension ({self.dimension}) must be at least 1")
        if self.metric not in _METRICS:
            raise ValueError(f"metric '{self.metric}' must be one of {', '.join(_METRICS)}")
        limit = self.limits.max_tokens if self.modality is Modality.TEXT else self.limits.image_size_px
        if limit < 1:
            raise ValueError(f"limits {asdict(self.limits)} state none for {self.modality}")
        if "fp32" not in self.graphs:
            raise ValueError("graphs has no 'fp32', which every bundle must have")
        if not 0 < self.golden.tolerance <= 0.01:
            raise ValueError(f"golden.tolerance ({self.golden.tolerance}) must lie in (0, 0.01]")
        self._check_widths()

    def _check_widths(self) -> None:
        for width in self.truncatable_dimensions:
            if not 0 < width < self.dimension:
                raise ValueError(f"truncatable_dimensions ({width}) must lie in [1, {self.dimension})")
        for setting in self.dial.settings if self.dial else ():
            if setting.dimension > self.dimension:
                raise ValueError(f"dial: dimension ({setting.dimension}) must be at most {self.dimension}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The whole of `diptych.json`."""

    format_version: int
    name: str
    """What the encoder is called in requests."""
    version: str
    """The bundle's, for people."""
    provenance: Provenance
    evaluation: tuple[Mapping[str, Any], ...] = ()
    """Rows of evaluation results, in the schema of `training.evaluation`."""
    files: Mapping[str, FileEntry]
    """Every file of the bundle but `diptych.json`, by its path with forward slashes."""
    encoders: tuple[EncoderEntry, ...]

    def __post_init__(self) -> None:
        """Checks names, paths and references."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name '{self.name}' must be 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
            )
        if not self.encoders:
            raise ValueError("encoders is empty")
        if len({entry.modality for entry in self.encoders}) != len(self.encoders):
            raise ValueError("encoders holds two of one modality")
        for path in self.files:
            _require_inside(path)
        for path in self._referenced():
            if path not in self.files:
                raise ValueError(f"'{path}' is referred to but is not listed in files")

    def _referenced(self) -> list[str]:
        paths: list[str] = []
        for entry in self.encoders:
            paths += [graph.file for graph in entry.graphs.values()]
            paths += [*entry.golden.inputs, entry.golden.vectors]
        return paths

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON's own types."""
        return asdict(self)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `diptych.json`, with a seal over its own content.

    Args:
        manifest: What to write.
        folder: The bundle's folder; nothing else is there to be replaced.
    """
    values = manifest.to_json()
    text = json.dumps({"seal": digest(values), **values}, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Reads `diptych.json` strictly.

    Args:
        folder: The bundle's folder.

    Returns:
        The manifest.

    Raises:
        BundleError: There is none, another version wrote it, it lacks a field, names a path outside the folder, or was
            changed after export.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise BundleError(f"'{folder}' is no bundle: it has no {MANIFEST_FILE}; make one with `diptych export`")
    try:
        values = parse_json(file.read_text(encoding="utf-8"), MANIFEST_FILE)
        return _decode_sealed(values)
    except (StrictJsonError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle '{folder}' is refused: {error}") from error


def _decode_sealed(values: Any) -> Manifest:
    if not isinstance(values, dict) or "format_version" not in values:
        raise StrictJsonError(f"{MANIFEST_FILE} lacks the field 'format_version'")
    version = values["format_version"]
    if version != FORMAT_VERSION:
        raise StrictJsonError(
            f"{MANIFEST_FILE} has format version {version!r}, this diptych reads version {FORMAT_VERSION}; "
            "export the bundle again or use the diptych that wrote it"
        )
    seal = values.pop("seal", None)
    manifest = decode(Manifest, values, MANIFEST_FILE)
    if seal != digest(values):
        raise StrictJsonError(f"{MANIFEST_FILE} was changed after export: its seal does not match its content")
    return manifest


def _require_inside(path: str) -> None:
    pure = PurePosixPath(path)
    windows = PureWindowsPath(path)
    leaves = pure.is_absolute() or bool(windows.drive) or "\\" in path or ".." in pure.parts
    if leaves or str(pure) != path or path in {".", MANIFEST_FILE}:
        raise ValueError(f"files names the path '{path}', which is not a plain path inside the bundle")
