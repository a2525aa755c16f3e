"""What `diptych export` and `diptych verify` print of a bundle."""

from __future__ import annotations

from pathlib import Path

from models.bundle.dial import DimensionDial
from models.bundle.encodings import Encoding
from models.bundle.identity import MIN_SHARED_COSINE
from models.bundle.manifest import EncoderEntry, GraphEntry, Manifest
from models.bundle.verify import VerifyReport

__all__ = ["describe_bundle", "describe_dial", "describe_report"]


def describe_bundle(bundle: Path, manifest: Manifest) -> str:
    """Lays out what was exported and how it measured.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest, of one encoder.

    Returns:
        Some lines.
    """
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
        if precision != "fp32":
            lines.append(f"    {_describe_neighbours(graph)}")
    return "\n".join([*lines, *_describe_widths(entry)])


def describe_report(report: VerifyReport) -> str:
    """Lays out what a bundle's check found.

    Args:
        report: The findings.

    Returns:
        A line a check, the dials, and the verdict.
    """
    lines = [f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<16} {check.detail}" for check in report.checks]
    for modality, dial in report.dials.items():
        lines += [f"{modality} {line}" if not line.startswith(" ") else line for line in describe_dial(dial)]
    verdict = "is sound" if report.passed else "is refused"
    return "\n".join([*lines, f"{report.path} {verdict}"])


def describe_dial(dial: DimensionDial) -> list[str]:
    """Lays out a dial as a table: a line a width, a column an encoding, recall@10 with the bytes of a vector.

    Args:
        dial: What was measured.

    Returns:
        The lines.
    """
    lines = [
        f"dial: recall@10 against whole float32 vectors, and bytes a vector "
        f"({dial.n_query} queries among {dial.n_gallery}, {dial.source})",
        "  dimension" + "".join(f"{encoding:>17}" for encoding in Encoding),
    ]
    for width in dict.fromkeys(setting.dimension for setting in dial.settings):
        told = {setting.encoding: setting for setting in dial.settings if setting.dimension == width}
        cells = [
            f"{told[name].recall_at_10:.3f} ({told[name].size_bytes:>5})" if name in told else "" for name in Encoding
        ]
        lines.append(f"  {width:>9}" + "".join(f"{cell:>17}" for cell in cells))
    return lines


def _describe_neighbours(graph: GraphEntry) -> str:
    found = graph.neighbours
    if found is None:
        return (
            f"{graph.quantisation}, on golden inputs only: what retrieval loses is not known; give real inputs with "
            "--measure FILE_OR_PACK"
        )
    return (
        f"{graph.quantisation}, of fp32's neighbours recall@10 {found.recall_at_10:.3f}, R@1 {found.same_nearest:.3f} "
        f"({found.n_query} queries among {found.n_gallery}, {found.source})"
    )


def _describe_widths(entry: EncoderEntry) -> list[str]:
    offered = ", ".join(map(str, entry.truncatable_dimensions)) or "none"
    shorter = f"  shorter dimensions offered: {offered}"
    return [shorter] if entry.dial is None else [*(f"  {line}" for line in describe_dial(entry.dial)), shorter]


def _own_space(precision: str, golden_cosine: float) -> str:
    strays = precision != "fp32" and golden_cosine < MIN_SHARED_COSINE
    return f"; below {MIN_SHARED_COSINE}: a space of its own" if strays else ""
