"""The method study: every method at equal training cost on one data set, measured alike."""

from __future__ import annotations

from collections.abc import Sequence

from training.corpora.image_pack import ImagePack
from training.corpora.pack_manifest import read_kind
from training.evaluation.bootstrap import BootstrapConfig
from training.evaluation.evaluated import Evaluated, average_runs, describe_differences
from training.evaluation.results import Result
from training.methods.table import MethodEntry, all_methods
from training.run_config import LabelConfig
from training.study.cell import CellSpecification
from training.study.config import MethodStudyConfig
from training.study.runner import Cell
from training.study.specify import require_known_settings, specify_cell, study_method

__all__ = ["compare_methods", "plan_methods"]


def plan_methods(config: MethodStudyConfig) -> list[CellSpecification]:
    """Lists the cells: seed by seed, so that every method has a figure early.

    Args:
        config: What is studied.

    Returns:
        One specification a method and seed; methods that need labels are left out where the pack has none, unless they
        were asked for.

    Raises:
        ValueError: A method is unknown or learns from other data, or the data are no pack.
    """
    entries = _chosen(config)
    require_known_settings(config, entries)
    _pairs(config, [entry.name for entry in entries])
    return [cell for seed in config.seeds for entry in entries for cell in _cells(config, entry, seed)]


def compare_methods(config: MethodStudyConfig, cells: Sequence[Cell]) -> list[Result]:
    """Compares the pairs that were asked for, query by query, each method averaged over its seeds.

    Args:
        config: What is studied.
        cells: What was found.

    Returns:
        Rows of differences with their 95 % intervals, of the figures that a study's table ranks by; none of a pair
        that was not measured.
    """
    names = dict.fromkeys(cell.specification.name for cell in cells)
    found = []
    for one, other in _pairs(config, list(names)):
        left, right = _mean(cells, one), _mean(cells, other)
        if left is not None and right is not None:
            found += describe_differences(left, right, BootstrapConfig())
    return found


def _cells(config: MethodStudyConfig, entry: MethodEntry, seed: int) -> list[CellSpecification]:
    """Returns a method's cell; with few labels that of one that learns from labels alone is beside the ceiling."""
    needs = entry.load().needs
    if not needs.every_label or config.labels == LabelConfig():
        return [specify_cell(config, entry, name=entry.name, seed=seed, labels=config.labels)]
    few = specify_cell(config, entry, name=f"{entry.name}-few-labels", seed=seed, labels=config.labels)
    return [few, specify_cell(config, entry, name=entry.name, seed=seed)]


def _mean(cells: Sequence[Cell], name: str) -> Evaluated | None:
    runs = [cell.evaluated for cell in cells if cell.specification.name == name and cell.evaluated is not None]
    return average_runs(runs, name=name, config=BootstrapConfig()) if runs else None


def _pairs(config: MethodStudyConfig, methods: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for word in config.against:
        one, colon, other = word.partition(":")
        if not colon or one not in methods or other not in methods:
            raise ValueError(f"--against {word}: write METHOD:OTHER, two of the study's: {', '.join(methods)}")
        pairs.append((one, other))
    return pairs


def _chosen(config: MethodStudyConfig) -> list[MethodEntry]:
    if config.methods is not None:
        return [study_method(config, name) for name in config.methods]
    kind = read_kind(config.data)
    entries = [entry for entry in all_methods().values() if entry.modality == kind]
    if kind == "text" or ImagePack.open(config.data).labels is not None:
        return entries
    return [entry for entry in entries if not entry.load().needs.labels]
