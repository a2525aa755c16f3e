"""`diptych export` and `diptych verify`: make a bundle, and check one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from models.bundle.manifest import Manifest
    from models.bundle.verify import VerifyReport

__all__ = ["Export", "Verify"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Seals a training run or a model directory into a bundle, which serves without torch.

    ONNX Runtime must reproduce torch on golden inputs, alone and in padded batches; otherwise there is no bundle.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A run folder of `diptych train`, or a Hugging Face / sentence-transformers directory."""
    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    """The bundle to make; its last part is the encoder's name unless --name says otherwise."""
    precision: tuple[Literal["fp32", "int8"], ...] = ("fp32",)
    """Graphs to make; fp32 is always made."""
    name: str | None = None
    """What the encoder is called in requests: a-z, 0-9, '.', '_' and '-'."""
    version: str = "1"
    """The bundle's version, for people."""
    prompt_query: str | None = None
    """Written before every query; None: what the source states."""
    prompt_document: str | None = None
    """Written before every document; None: what the source states."""
    results: tuple[Path, ...] = ()
    """JSON files that `diptych eval` wrote, to carry along."""
    overwrite: bool = False
    """Replace a bundle that is there."""

    def run(self) -> int:
        """Makes the bundle and prints what it is."""
        from training.evaluation.results import read_results
        from training.export.export import export_source, read_source, require_free
        from training.export.source import ExportConfig

        config = ExportConfig(
            name=self.name,
            version=self.version,
            precisions=self.precision,
            results=[row.to_json() for file in self.results for row in read_results(file)],
            query_prompt=self.prompt_query,
            document_prompt=self.prompt_document,
            overwrite=self.overwrite,
        )
        require_free(self.bundle, overwrite=self.overwrite)
        manifest = export_source(read_source(self.source), self.bundle, config)
        print(_describe_bundle(self.bundle, manifest))
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verify:
    """Checks a bundle on this machine: its files, its identity, and its golden inputs alone and in padded batches."""

    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    """The bundle's folder."""
    threads: int = 1
    """Threads that one call of a graph uses."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> int:
        """Prints the findings; 0 where all is well, 1 otherwise."""
        from models.bundle.verify import verify_bundle

        report = verify_bundle(self.bundle, threads=self.threads)
        print(json.dumps(report.to_json(), indent=2) if self.json else _describe_report(report))
        return 0 if report.passed else 1


def _describe_bundle(bundle: Path, manifest: Manifest) -> str:
    (entry,) = manifest.encoders
    size = sum(file.size_bytes for file in manifest.files.values()) / 1e6
    limit = f"up to {entry.limits.max_tokens} tokens" if entry.limits.max_tokens else f"{entry.limits.image_size_px} px"
    lines = [
        f"{bundle}: {entry.modality} encoder '{manifest.name}', {entry.dimension} dimensions, {entry.metric}, {limit}, "
        f"{len(manifest.files)} files, {size:.1f} MB",
        f"  space {entry.space}",
    ]
    for precision, graph in entry.graphs.items():
        lines.append(
            f"  {precision}: against torch {graph.golden_deviation:.1e}, worst cosine {graph.golden_cosine:.6f}, "
            f"batched against alone {graph.batch_deviation:.1e}{_own_space(precision, graph.golden_cosine)}"
        )
    return "\n".join(lines)


def _own_space(precision: str, golden_cosine: float) -> str:
    from models.bundle.identity import MIN_SHARED_COSINE

    strays = precision != "fp32" and golden_cosine < MIN_SHARED_COSINE
    return f"; below {MIN_SHARED_COSINE}: a space of its own" if strays else ""


def _describe_report(report: VerifyReport) -> str:
    lines = [f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<16} {check.detail}" for check in report.checks]
    verdict = "is sound" if report.passed else "is refused"
    return "\n".join([*lines, f"{report.path} {verdict}"])
