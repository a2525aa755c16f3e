"""Writes an encoder's int8 graph in the way that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.bundle.manifest import Prompts, Quantisation
from training.export.errors import ExportError
from training.export.feeds import prepare_feed
from training.export.quantise import calibrate_graph, quantise_graph
from training.export.source import ExportConfig, ExportSource, ReferenceSample

__all__ = ["find_calibration", "write_int8"]


def find_calibration(source: ExportSource, config: ExportConfig) -> ReferenceSample | None:
    """Returns what static int8 is calibrated on: what was given, else what the encoder was trained on.

    Args:
        source: The encoder.
        config: How it is exported.

    Returns:
        The sample; None where no static int8 graph is asked for.

    Raises:
        ExportError: One is asked for and no sample is at hand.
    """
    if "int8" not in config.precisions or config.quantisation is not Quantisation.STATIC:
        return None
    sample = config.calibration or (source.calibration() if source.calibration else None)
    if sample is None:
        raise ExportError(
            "static int8 takes its scales from real inputs, and none are at hand; give --calibrate FILE_OR_PACK, or "
            "choose --int8 dynamic"
        )
    return sample


def write_int8(
    source: ExportSource, exact: Path, destination: Path, *, prompts: Prompts, calibration: ReferenceSample | None
) -> None:
    """Writes the int8 graph.

    Args:
        source: The encoder.
        exact: Its fp32 graph.
        destination: The file to write.
        prompts: What is written before calibration texts.
        calibration: Inputs to take scales from; None: dynamic.

    Raises:
        ExportError: The encoder has no int8 form of this kind, or no calibration input can be used.
    """
    try:
        if calibration is None:
            quantise_graph(exact, destination)
        else:
            calibrate_graph(exact, destination, _feeds(source, calibration, prompts))
    except ExportError:
        raise
    except ValueError as error:
        raise ExportError(f"this encoder has no int8 form: {error}; leave out --precision int8") from error


def _feeds(source: ExportSource, calibration: ReferenceSample, prompts: Prompts) -> Iterator[dict[str, NDArray[Any]]]:
    """Prepares inputs one by one: alone, since a batch's padding would count as values that were seen."""
    usable = 0
    for item in calibration.items:
        try:
            feed = prepare_feed(source, item, prompts)
        except ValueError:
            continue
        usable += 1
        yield feed
    if not usable:
        raise ExportError(f"none of the {len(calibration.items)} inputs of '{calibration.source}' can be calibrated on")
