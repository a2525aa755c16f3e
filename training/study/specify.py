"""From a study and a method to a cell: the method by its recipe, on the study's data, encoder and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from models.config import ImageEncoderConfig
from training.config import FitConfig, LoopConfig
from training.corpora.image_pack import ImagePack
from training.corpora.pack_manifest import read_kind
from training.corpora.splits import Split
from training.corpora.text_pack import TextPack
from training.fit.image_training import count_training_images
from training.fit.method_settings import parse_settings, require_method
from training.fit.text_training import split_sentences
from training.methods.recipes import Recipe
from training.methods.table import MethodEntry
from training.run_config import ImageRunConfig, LabelConfig, TextRunConfig
from training.study.cell import CellSpecification
from training.study.config import StudyConfig

__all__ = ["require_known_settings", "specify_cell", "study_method"]


def study_method(config: StudyConfig, name: str) -> MethodEntry:
    """Finds a method that learns from the study's data.

    Args:
        config: The study.
        name: As a user types it.

    Returns:
        Its entry in the table.

    Raises:
        ValueError: There is none, it reads something else, or the data are no pack.
    """
    return require_method(name, read_kind(config.data))


def specify_cell(
    config: StudyConfig,
    entry: MethodEntry,
    *,
    name: str,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    labels: LabelConfig | None = None,
) -> CellSpecification:
    """Says what a cell of a study does.

    Args:
        config: The study.
        entry: The method.
        name: What rows, and with the seed the cell's files, are called.
        seed: Of the training.
        settings: What this cell has in place of the recipe's and of the study's settings.
        recipe: In place of the study's.
        labels: What it is shown, where it uses labels; all of them where not given.

    Returns:
        The specification.

    Raises:
        ValueError: The method has no recipe of the study's name.
    """
    recipe = recipe or entry.recipe(config.recipe, pretrained=config.init is not None)
    offered = _offered(entry)
    told = {key: value for key, value in parse_settings(config.set).items() if key in offered}
    complete = {**recipe.settings, **told, **(settings or {})}
    out = config.out.absolute() / "runs" / f"{name}-{seed}"
    fit = FitConfig(optimiser=recipe.optimiser, loop=LoopConfig(seed=seed))
    run: ImageRunConfig | TextRunConfig
    if entry.modality == "image":
        run = _image_run(config, entry, recipe, settings=complete, out=out, fit=fit, labels=labels or LabelConfig())
    else:
        run = _text_run(config, entry, recipe, settings=complete, out=out, fit=fit)
    return CellSpecification(name=name, run=run, budget=config.budget, split=config.split, threads=config.threads)


def require_known_settings(config: StudyConfig, entries: Sequence[MethodEntry]) -> None:
    """Refuses a setting that no method of a study has: nobody would be told it.

    Args:
        config: The study.
        entries: Its methods.

    Raises:
        ValueError: There is such a setting.
    """
    offered = set().union(*(_offered(entry) for entry in entries))
    unknown = [name for name in parse_settings(config.set) if name not in offered]
    if unknown:
        names = ", ".join(sorted(offered)).replace("_", "-")
        raise ValueError(f"--set {unknown[0].replace('_', '-')}: no method of this study has it; they have {names}")


def _offered(entry: MethodEntry) -> set[str]:
    return {field.name for field in fields(entry.load_config())}


def _image_run(
    config: StudyConfig,
    entry: MethodEntry,
    recipe: Recipe,
    *,
    settings: Mapping[str, Any],
    out: Path,
    fit: FitConfig,
    labels: LabelConfig,
) -> ImageRunConfig:
    pack = ImagePack.open(config.data)
    run = ImageRunConfig(
        data=config.data.absolute(),
        out=out,
        method=entry.name,
        settings=settings,
        encoder=ImageEncoderConfig(architecture=config.architecture, image_size_px=pack.size_px),
        init=None if config.init is None else config.init.absolute(),
        batch_size=recipe.batch_size,
        labels=labels if entry.load().needs.labels else LabelConfig(),
        fit=fit,
    )
    # Of few images at most a third, so that a bank has room beside a batch.
    return replace(run, batch_size=max(2, min(run.batch_size, count_training_images(run, pack) // 3)))


def _text_run(
    config: StudyConfig, entry: MethodEntry, recipe: Recipe, *, settings: Mapping[str, Any], out: Path, fit: FitConfig
) -> TextRunConfig:
    sentences = sum(len(document) for document in split_sentences(TextPack.open(config.data), Split.TRAIN))
    return TextRunConfig(
        data=config.data.absolute(),
        out=out,
        method=entry.name,
        settings=settings,
        encoder=recipe.text_encoder if config.init is None else None,
        init=None if config.init is None else config.init.absolute(),
        batch_size=max(2, min(recipe.batch_size, sentences // 3)),
        fit=fit,
    )
