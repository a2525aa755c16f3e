"""The method study: every method at equal training cost on one data set, measured alike."""

from __future__ import annotations

from training.corpora.image_pack import ImagePack
from training.methods.table import MethodEntry, all_methods, find_method
from training.study.cell import CellSpecification, require_known_settings, specify_cell
from training.study.config import MethodStudyConfig

__all__ = ["plan_methods"]


def plan_methods(config: MethodStudyConfig) -> list[CellSpecification]:
    """Lists the cells: seed by seed, so that every method has a figure early.

    Args:
        config: What is studied.

    Returns:
        One specification a method and seed; methods that need labels are left out where the pack has none, unless they
        were asked for.

    Raises:
        ValueError: A method is unknown or learns from texts, or the data are no image pack.
    """
    pack = ImagePack.open(config.data)
    entries = _chosen(config, has_labels=pack.labels is not None)
    require_known_settings(config, entries)
    return [
        specify_cell(
            config,
            pack,
            entry,
            name=entry.name,
            seed=seed,
        )
        for seed in config.seeds
        for entry in entries
    ]


def _chosen(config: MethodStudyConfig, *, has_labels: bool) -> list[MethodEntry]:
    if config.methods is None:
        entries = [entry for entry in all_methods().values() if entry.modality == "image"]
        return [entry for entry in entries if has_labels or not entry.load().needs.labels]
    entries = [find_method(name) for name in config.methods]
    for entry in entries:
        if entry.modality != "image":
            raise ValueError(f"--methods {entry.name}: it learns from {entry.modality}s; this study is of images")
    return entries
