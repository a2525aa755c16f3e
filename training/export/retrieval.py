"""Measures on real inputs what retrieval loses: to an int8 graph, to shorter vectors, to smaller encodings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from models.bundle.dial import DialSetting, DimensionDial, NeighbourAgreement
from models.bundle.encoder import Encoder
from models.bundle.encodings import Encoding, read_back, shorten
from models.bundle.manifest import EncoderEntry
from training.export.errors import ExportError
from training.export.neighbours import VectorSet, find_members, recall_of
from training.export.reference import EmbeddedSample, embed_sample, take_statistics
from training.export.source import LEAST_MEASURED, ExportConfig, ReferenceSample

__all__ = ["choose_widths", "compare_neighbours", "measure_dial", "measure_retrieval"]

_COUNT: Final = 10
_MOST: Final = 2_000
"""Inputs compared with each other; more would only sharpen the third digit."""
_FRACTIONS: Final = (2, 4, 8)
_LEAST_WIDTH: Final = 8


def measure_retrieval(
    encoders: Mapping[str, Encoder],
    entry: EncoderEntry,
    reference: ReferenceSample | None,
    config: ExportConfig,
    *,
    held_apart: Collection[str | bytes] = (),
) -> EncoderEntry:
    """Embeds the reference sample with every graph and writes down what vectors look like and what retrieval loses.

    Args:
        encoders: By precision.
        entry: The encoder.
        reference: The sample; None: nothing is measured. Of fewer than 100 different inputs only statistics are taken.
        config: Limits, and the widths that were named.
        held_apart: Inputs that were calibrated on, which are not measured on.

    Returns:
        The entry with statistics, neighbours, dial and the widths that may be asked for.

    Raises:
        ExportError: The int8 graph loses more than the limit, or a width was named that cannot be.
    """
    _check_named(entry, config.truncate_to)
    if reference is None:
        return replace(entry, truncatable_dimensions=config.truncate_to)
    embedded = embed_sample(encoders["fp32"], reference, entry.prompts)
    entry = replace(entry, statistics=take_statistics(embedded, entry.modality))
    rows = _choose_rows(embedded, set(held_apart))
    if len(rows) < LEAST_MEASURED:
        return replace(entry, truncatable_dimensions=config.truncate_to)
    vectors = VectorSet(embedded.vectors.queries[rows], embedded.vectors.gallery[rows])
    items = ReferenceSample(items=[embedded.items[row] for row in rows], source=reference.source)
    graphs = dict(entry.graphs)
    for precision in graphs.keys() - {"fp32"}:
        other = embed_sample(encoders[precision], items, entry.prompts).vectors
        agreement = compare_neighbours(vectors, other, metric=entry.metric, source=items.source)
        _require_kept(agreement, config)
        graphs[precision] = replace(graphs[precision], neighbours=agreement)
    dial = measure_dial(vectors, metric=entry.metric, named=config.truncate_to, source=items.source)
    return replace(entry, graphs=graphs, dial=dial, truncatable_dimensions=choose_widths(dial, entry.dimension, config))


def compare_neighbours(exact: VectorSet, other: VectorSet, *, metric: str, source: str) -> NeighbourAgreement:
    """Compares the neighbours that two graphs find for the same inputs, each query against all other inputs.

    Args:
        exact: By the fp32 graph, more than 10 inputs.
        other: By the other, row for row.
        metric: What vectors are compared by.
        source: What the inputs were taken from.

    Returns:
        The share of neighbours, and of nearest ones, that the other graph finds.
    """
    return NeighbourAgreement(
        recall_at_10=_recall(other, exact, metric, _COUNT),
        same_nearest=_recall(other, exact, metric, 1),
        n_query=len(exact.queries),
        n_gallery=len(exact.gallery) - 1,
        source=source,
    )


def measure_dial(vectors: VectorSet, *, metric: str, source: str, named: Sequence[int] = ()) -> DimensionDial:
    """Measures each width in each encoding against whole float32 vectors, queries and gallery encoded alike.

    Args:
        vectors: By the fp32 graph, more than 10 inputs, `[n, d]`.
        metric: What vectors are compared by; only cosine has other widths than the whole, since what is cut is scaled
            back to unit length.
        source: What the inputs were taken from.
        named: Widths beside a half, a quarter and an eighth; in [1, d).

    Returns:
        The table.
    """
    whole = vectors.gallery.shape[1]
    fractions = [whole // part for part in _FRACTIONS if whole % part == 0 and whole // part >= _LEAST_WIDTH]
    widths = sorted({whole, *named, *(fractions if metric == "cosine" else ())}, reverse=True)
    wanted = find_members(vectors, metric=metric, count=_COUNT)
    settings = [
        DialSetting(
            dimension=width,
            encoding=encoding,
            recall_at_10=round(recall_of(find_members(coded, metric=metric, count=_COUNT), wanted), 4),
        )
        for width in widths
        for encoding in Encoding
        for coded in [_encode(vectors, width, encoding)]
    ]
    count = len(vectors.queries)
    return DimensionDial(settings=tuple(settings), n_query=count, n_gallery=count - 1, source=source)


def choose_widths(dial: DimensionDial, dimension: int, config: ExportConfig) -> tuple[int, ...]:
    """Returns the widths that vectors may be cut to: those that were named, else those that lose little as float32.

    Args:
        dial: What was measured.
        dimension: The whole width, which is not one of them.
        config: The names and the limit.

    Returns:
        The widths, falling.
    """
    if config.truncate_to:
        return tuple(sorted(set(config.truncate_to), reverse=True))
    return tuple(
        setting.dimension
        for setting in dial.settings
        if setting.encoding is Encoding.FLOAT32
        and setting.dimension < dimension
        and 1 - setting.recall_at_10 <= config.max_dimension_loss
    )


def _recall(found: VectorSet, wanted: VectorSet, metric: str, count: int) -> float:
    members = [find_members(vectors, metric=metric, count=count) for vectors in (found, wanted)]
    return round(recall_of(*members), 4)


def _encode(vectors: VectorSet, width: int, encoding: Encoding) -> VectorSet:
    sides = [read_back(shorten(side, width), encoding) for side in (vectors.queries, vectors.gallery)]
    return VectorSet(*sides)


def _choose_rows(embedded: EmbeddedSample, held_apart: set[str | bytes]) -> list[int]:
    """Leaves out copies, whose order would be chance, and what was calibrated on."""
    first = {item: row for row, item in reversed(list(enumerate(embedded.items)))}
    return sorted(row for item, row in first.items() if item not in held_apart)[:_MOST]


def _check_named(entry: EncoderEntry, widths: Sequence[int]) -> None:
    for width in widths:
        if not 0 < width < entry.dimension:
            raise ExportError(f"truncate_to ({width}) must lie in [1, {entry.dimension}), the encoder's width")
    if widths and entry.metric != "cosine":
        raise ExportError(
            f"truncate_to ({widths[0]}) needs an encoder of unit vectors, since what is cut is scaled back to unit "
            f"length; this one is compared by {entry.metric}: leave it out"
        )


def _require_kept(agreement: NeighbourAgreement, config: ExportConfig) -> None:
    loss = 1 - agreement.recall_at_10
    if loss <= config.max_int8_loss:
        return
    other = "static" if config.quantisation == "dynamic" else "dynamic"
    raise ExportError(
        f"nothing was exported: its int8 graph ({config.quantisation}) misses {loss:.3f} of the fp32 graph's 10 "
        f"nearest neighbours, the limit is {config.max_int8_loss} ({agreement.n_query} queries, {agreement.source}); "
        f"leave int8 out, try --int8 {other}, or raise --max-int8-loss"
    )
