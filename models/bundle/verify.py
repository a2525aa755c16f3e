"""Checks a bundle against itself on this machine, and reports every finding instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models.bundle.assemble import assemble_encoder, check_identity, identify
from models.bundle.dial import DimensionDial
from models.bundle.errors import BundleError
from models.bundle.golden import Agreement, Golden, find_agreement_fault, measure_agreement, read_golden
from models.bundle.integrity import find_file_faults
from models.bundle.manifest import EncoderEntry, GraphEntry, Manifest, read_manifest

__all__ = ["BATCH_SIZES", "Check", "VerifyReport", "verify_bundle"]

BATCH_SIZES: Final = (2, 3, 8, 32)
"""Sizes of the batches the golden inputs are run in, beside alone."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """`manifest`, `files`, `text identity`, `text fp32`, …"""
    passed: bool
    detail: str
    """What was found, in one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """Everything that was looked at."""

    path: str
    name: str
    """The bundle's; empty where the manifest could not be read."""
    version: str
    checks: tuple[Check, ...]
    dials: Mapping[str, DimensionDial] = field(default_factory=dict)
    """By modality: what widths and encodings keep of the neighbours, as measured at export."""

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON's own types."""
        return {**asdict(self), "passed": self.passed}


def verify_bundle(path: Path, *, threads: int = 1) -> VerifyReport:
    """Checks files, identity, and every graph on the golden inputs: alone, and in padded batches of several sizes.

    Args:
        path: The bundle's folder.
        threads: Threads that one call of a graph uses.

    Returns:
        The findings; a damaged bundle is a finding, not an error.
    """
    folder = Path(path)
    try:
        manifest = read_manifest(folder)
    except BundleError as error:
        return VerifyReport(path=str(folder), name="", version="", checks=(Check("manifest", False, str(error)),))
    checks = [
        Check("manifest", True, f"format version {manifest.format_version}, sealed"),
        *_check_files(folder, manifest),
    ]
    if checks[-1].passed:  # a graph that was tampered with is not run
        for entry in manifest.encoders:
            checks += _check_encoder(folder, manifest, entry, threads)
    return VerifyReport(
        path=str(folder),
        name=manifest.name,
        version=manifest.version,
        checks=tuple(checks),
        dials={str(entry.modality): entry.dial for entry in manifest.encoders if entry.dial is not None},
    )


def _check_files(folder: Path, manifest: Manifest) -> list[Check]:
    faults = list(find_file_faults(folder, manifest))
    if faults:
        return [Check("files", False, fault) for fault in faults]
    size = sum(entry.size_bytes for entry in manifest.files.values())
    return [Check("files", True, f"{len(manifest.files)} files, {size / 1e6:.1f} MB, as sealed")]


def _check_encoder(folder: Path, manifest: Manifest, entry: EncoderEntry, threads: int) -> list[Check]:
    identity = f"{entry.modality} identity"
    try:
        check_identity(folder, manifest, entry)
        golden = read_golden(folder, entry)
    except BundleError as error:
        return [Check(identity, False, str(error))]
    graphs = [
        _check_graph(folder, manifest, entry, precision, golden=golden, threads=threads) for precision in entry.graphs
    ]
    return [Check(identity, True, f"space {entry.space}"), *graphs]


def _check_graph(
    folder: Path, manifest: Manifest, entry: EncoderEntry, precision: str, *, golden: Golden, threads: int
) -> Check:
    name = f"{entry.modality} {precision}"
    try:
        encoder = assemble_encoder(folder, manifest, entry, precision=precision, threads=threads)
        agreement = measure_agreement(encoder, golden, batch_sizes=BATCH_SIZES)
    except BundleError as error:
        return Check(name, False, str(error))
    fault = find_agreement_fault(entry, precision, agreement)
    if fault is not None:
        return Check(name, False, fault)
    return Check(name, True, _describe(manifest, entry, precision, agreement))


def _describe(manifest: Manifest, entry: EncoderEntry, precision: str, agreement: Agreement) -> str:
    identity = identify(manifest, entry, precision, golden_cosine=agreement.golden_cosine)
    space = "" if identity.space == entry.space else f", below 0.99: a space of its own here, {identity.space}"
    return (
        f"golden deviation {agreement.golden_deviation:.1e}, worst cosine {agreement.golden_cosine:.6f}, "
        f"batched against alone {agreement.batch_deviation:.1e}, fingerprint {identity.fingerprint}{space}"
        f"{_recall_at_export(entry.graphs[precision])}"
    )


def _recall_at_export(graph: GraphEntry) -> str:
    """Tells what cannot be measured again, since the real inputs stay with whoever exported."""
    if graph.neighbours is None:
        return ""
    found = graph.neighbours
    return (
        f", {graph.quantisation}; at export recall@10 {found.recall_at_10:.3f} of fp32's neighbours "
        f"({found.n_query} queries, {found.source})"
    )
