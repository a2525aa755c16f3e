"""What a study is asked to do. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.corpora.splits import Split
from training.methods.recipes import RecipeName
from training.run_config import LabelConfig

__all__ = ["AugmentationStudyConfig", "MethodStudyConfig", "SettingsStudyConfig", "StudyConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """What every study is told."""

    data: Path
    """A pack of images or texts: `diptych data pack` makes one."""
    out: Path
    """Folder of the study; what is finished there is not done again."""
    budget: float = 2e13
    """Floating-point operations of each training, counted on one step with targets, supports and all crops; > 0. Some
    three minutes on two cores with the tiny ResNet are 2e13."""
    seeds: tuple[int, ...] = (0,)
    """One training of each cell for each."""
    recipe: RecipeName | None = None
    """Which of a method's recipes it is trained by; adapt with --init, else scratch, where not given."""
    init: Path | None = None
    """What every training starts from: weights for images, a model directory for texts. It is measured beside them."""
    architecture: str = "tiny-resnet"
    """Image encoder of all of them."""
    set: tuple[str, ...] = ()
    """Settings by NAME=VALUE, such as smallest-crop=0.35, in place of the recipes'; each method takes those it has."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """What methods that use labels are shown; these are ranked apart. A method study shows those that learn from labels
    alone all of them as well: the ceiling."""
    split: Split = Split.VALIDATION
    """Part of the data that is measured; choose on validation, and publish test once."""
    beside: tuple[str, ...] = ()
    """What else is measured, by the names that `diptych eval` knows, such as efficientnet-lite0."""
    threads: int = 2
    """CPU threads of each cell."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not self.budget > 0:
            raise ValueError(f"--budget ({self.budget}) must be > 0 floating-point operations, such as 2e13")
        if not self.seeds:
            raise ValueError("--seeds needs at least one")
        if self.threads < 1:
            raise ValueError(f"--threads ({self.threads}) must be >= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStudyConfig(StudyConfig):
    """Every method on one data set, at equal training cost."""

    methods: tuple[str, ...] | None = None
    """Methods to compare; all that learn from the data where not given."""
    against: tuple[str, ...] = ()
    """Pairs METHOD:OTHER whose difference is given with its interval, query by query, such as mean-shift:byol."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsStudyConfig(StudyConfig):
    """One method with every combination of some settings."""

    method: str = "simclr"
    """The method."""
    grid: tuple[str, ...]
    """What is tried, as NAME=VALUE,VALUE: the method's own settings, batch-size, and the optimiser's, such as
    learning-rate. Every combination is a cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationStudyConfig(StudyConfig):
    """One method with every pair of kinds of change, and with colour changes of several strengths."""

    method: str = "simclr"
    """The method."""
    kinds: tuple[str, ...] = ("crop", "colour", "grey", "blur", "solarise", "rotation", "erasing")
    """Kinds of change to pair; each is tried alone too, and all with flips."""
    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    """Factors on the colour changes of the method's own set of views."""
