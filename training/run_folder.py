"""A run's folder on disk: begun, finished, and loaded again as the encoder that is served.

config.json           what was asked for and what it came to: schema version, data, versions, threads
encoder.safetensors   the encoder as it is served, once the run is finished
classifier.safetensors  the classifier beside it, where the method keeps one
tokenizer/            tokenizer.json, of a sentence encoder
pack/                 the pack, where the data were raw
metrics.csv           the figures; events.out.tfevents.*, the same for TensorBoard; curves.png, a picture of them
last.ckpt             all that a resumed run needs; tensors and primitives
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file
from torch import nn

from models.bundle.encoder import Modality
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.tokens import Tokenizer
from models.config import ImageEncoderConfig, TextEncoderConfig
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from training.config import SCHEMA_VERSION
from training.config_json import differences
from training.publish import publish_text

__all__ = ["CHECKPOINT_FILE", "METRICS_FILE", "LoadedRun", "RunFolder", "load_run"]

CHECKPOINT_FILE: Final = "last.ckpt"
"""In a run's folder: what a resumed run needs."""
METRICS_FILE: Final = "metrics.csv"
"""In a run's folder: the figures."""
_CONFIG: Final = "config.json"
_ENCODER: Final = "encoder.safetensors"
_TOKENIZER: Final = "tokenizer"
_PACK: Final = "pack"
_CURVES: Final = "curves.png"
_LABELLED = "labelled.json"
# Where a run lies, how often it is saved and what reads ahead do not change what is learnt.
_FREE_ON_RESUME: Final = ("data", "out", "fit.loop.checkpoint_every_steps", "fit.device.workers", "fit.device.threads")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run, and the rules of beginning and resuming one."""

    path: Path
    """The folder."""

    @property
    def encoder(self) -> Path:
        """Weights of the encoder as it is served; there once the run is finished."""
        return self.path / _ENCODER

    def head(self, name: str) -> Path:
        """Returns where weights of a part beside the encoder are kept, such as the classifier's."""
        return self.path / f"{name}.safetensors"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.path / _TOKENIZER

    @property
    def pack(self) -> Path:
        """Folder of the pack that was made of raw data."""
        return self.path / _PACK

    @property
    def metrics(self) -> Path:
        """The figures."""
        return self.path / METRICS_FILE

    @property
    def curves(self) -> Path:
        """The picture of the figures."""
        return self.path / _CURVES

    @property
    def checkpoint(self) -> Path:
        """What a resumed run needs."""
        return self.path / CHECKPOINT_FILE

    @property
    def labelled(self) -> Path:
        """Which of the pack's images the method was shown the labels of."""
        return self.path / _LABELLED

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return self.encoder.is_file()

    @property
    def has_begun(self) -> bool:
        """Whether a run was begun here, so far that it can be resumed."""
        return self._holds_run and self.read_config()["run"] is not None

    def begin(self, *, source: Path | None = None, resume: bool = False, overwrite: bool = False) -> None:
        """Makes the folder ready for a run, and refuses to harm another one, or anything that is no run.

        Args:
            source: The data, which must not lie among the files that are cleared.
            resume: Whether an unfinished run is to go on.
            overwrite: Whether another run's files may be removed.

        Raises:
            ValueError: The folder holds a run and neither is asked for, holds something else, or cannot be resumed.
        """
        if resume and overwrite:
            raise ValueError("--resume and --overwrite exclude each other")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._holds_run:
            raise ValueError(f"{self.path} holds files but no run; choose a new or empty folder")
        if resume:
            self._check_resumable()
            return
        if not overwrite:
            self._check_free()
        if source is not None and source.absolute().is_relative_to(self.path.absolute()):
            raise ValueError(f"the data ({source}) lie in the run's own folder ({self.path}); move one of them")
        self.path.mkdir(parents=True, exist_ok=True)
        self._clear()
        # Says whose the folder is, before there is anything else in it.
        publish_text(self.path / _CONFIG, json.dumps({"schema_version": SCHEMA_VERSION, "run": None}) + "\n")

    def write_config(self, record: Mapping[str, Any], *, resume: bool = False) -> None:
        """Writes what the run was asked for; in a resumed run, checks that it is asked for the same.

        Args:
            record: JSON's own types, with `run` and `data`.
            resume: Whether the run goes on.

        Raises:
            ValueError: The resumed run was asked for something else; the fields are named.
        """
        if resume:
            self._check_same(record)
            return
        publish_text(self.path / _CONFIG, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def read_config(self) -> dict[str, Any]:
        """Reads what the run was asked for.

        Returns:
            What `write_config` wrote.

        Raises:
            ValueError: There is no run, or another version of diptych wrote it.
        """
        file = self.path / _CONFIG
        if not file.is_file():
            raise ValueError(f"{self.path} holds no run: there is no {_CONFIG}")
        try:
            record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from error
        if record.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{file} has schema version {record.get('schema_version')}; this diptych reads {SCHEMA_VERSION}"
            )
        return record

    @property
    def _holds_run(self) -> bool:
        """Whether the folder is a run's, and no model directory's, which has a `config.json` too."""
        try:
            record = json.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(record, dict) and {"schema_version", "run"} <= set(record)

    def _check_resumable(self) -> None:
        if self.read_config()["run"] is None:
            raise ValueError(f"the run in {self.path} was stopped before its first step; start it without --resume")
        if self.is_finished:
            raise ValueError(f"the run in {self.path} is finished; --overwrite starts it anew")

    def _check_free(self) -> None:
        if self.is_finished:
            raise ValueError(f"{self.path} holds a finished run; choose another folder, or --overwrite it")
        if self.checkpoint.is_file():
            raise ValueError(f"{self.path} holds an unfinished run; --resume it, or --overwrite it")

    def _clear(self) -> None:
        """Removes a run's own files; what else a user put there stays."""
        for folder in (self.tokenizer, self.pack):
            shutil.rmtree(folder, ignore_errors=True)
        files = [self.path / _CONFIG, self.encoder, self.metrics, self.curves, self.checkpoint, self.labelled]
        for file in [*files, self.head("classifier"), *self.path.glob("events.out.tfevents.*")]:
            file.unlink(missing_ok=True)

    def _check_same(self, record: Mapping[str, Any]) -> None:
        saved = self.read_config()
        changed = [
            difference
            for difference in differences(saved["run"], record["run"])
            if not difference.startswith(tuple(f"{name} (" for name in _FREE_ON_RESUME))
        ]
        if changed:
            raise ValueError(
                f"the run in {self.path} was begun with another {', '.join(changed)}; "
                "give the same flags to --resume it, or --overwrite it"
            )
        if saved["data"]["fingerprint"] != record["data"]["fingerprint"]:
            raise ValueError(f"the data have changed since the run in {self.path} was begun; --overwrite it")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """A finished run."""

    path: Path
    modality: Modality
    config: Mapping[str, Any]
    """All of `config.json`."""
    served: ServedTextEncoder | ServedImageEncoder
    """In evaluation mode, on the CPU, fp32."""
    encoder: TextEncoderConfig | ImageEncoderConfig
    """Its shape."""
    tokenizer: Tokenizer | None
    """Of a sentence encoder."""
    preprocessing: ImagePreprocessing | None
    """Of an image encoder."""
    data_path: Path
    """The pack it was trained on, where it lay then."""
    data_fingerprint: str
    """Identifies that pack."""
    provenance: Mapping[str, Any]
    """`method`, `config`, `data_fingerprint`, `seed`, `versions`: the fields of a bundle's `Provenance`."""


def load_run(path: Path, *, image_size_px: int | None = None) -> LoadedRun:
    """Loads a finished run as the encoder that is served.

    Args:
        path: The run's folder.
        image_size_px: Side of the square that an image encoder is to read, where not that of its training. Crops make
            things larger in training than they are when an image is seen whole, so a convolutional encoder may gain
            from more pixels than it was trained with (Touvron et al., Fixing the train-test resolution discrepancy,
            2019).

    Returns:
        The encoder, and all that is known of it.

    Raises:
        ValueError: The folder holds no finished run of an encoder, its files are damaged, or the encoder reads no
            images of that size.
    """
    folder = RunFolder(Path(path))
    record = folder.read_config()
    if not folder.is_finished:
        raise ValueError(f"the run in {path} is not finished; --resume it")
    if record.get("modality") not in set(Modality):
        raise ValueError(f"the run in {path} was made by training.fit.fit; load its {_ENCODER} with your own code")
    modality = Modality(record["modality"])
    is_text = modality is Modality.TEXT
    encoder = _read_encoder_config(record, modality)
    preprocessing = None if is_text else ImagePreprocessing.from_config(record["preprocessing"])
    if image_size_px is not None:
        if not isinstance(encoder, ImageEncoderConfig) or preprocessing is None:
            raise ValueError(f"the run in {path} reads texts; a size in pixels ({image_size_px}) is for images")
        encoder, preprocessing = encoder.at_size(image_size_px), preprocessing.at_size(image_size_px)
    return LoadedRun(
        path=folder.path,
        modality=modality,
        config=record,
        served=_load_served(encoder, folder.encoder),
        encoder=encoder,
        tokenizer=Tokenizer.load(folder.tokenizer) if is_text else None,
        preprocessing=preprocessing,
        data_path=Path(record["data"]["path"]),
        data_fingerprint=record["data"]["fingerprint"],
        provenance={
            "method": record["run"]["method"],
            "config": {name: record[name] for name in ("run", "method", "encoder", "max_steps", "environment")},
            "data_fingerprint": record["data"]["fingerprint"],
            "seed": record["run"]["fit"]["loop"]["seed"],
            "versions": record["environment"]["versions"],
        },
    )


def _read_encoder_config(record: Mapping[str, Any], modality: Modality) -> TextEncoderConfig | ImageEncoderConfig:
    if modality is Modality.TEXT:
        return TextEncoderConfig.from_json(record["encoder"])
    return ImageEncoderConfig.from_json(record["encoder"])


def _load_served(
    config: TextEncoderConfig | ImageEncoderConfig, weights: Path
) -> ServedTextEncoder | ServedImageEncoder:
    served: ServedTextEncoder | ServedImageEncoder
    trained: nn.Module
    if isinstance(config, TextEncoderConfig):
        towers = [build_text_encoder(config) for _ in range(config.towers)]
        served = ServedTextEncoder(towers, normalize=config.normalize)
        trained = served.towers
    else:
        trained = build_image_encoder(config)
        served = ServedImageEncoder(trained)
    try:
        trained.load_state_dict(load_file(weights))
    except Exception as error:  # safetensors and torch raise many kinds; each means the file is not the run's
        raise ValueError(f"{weights} does not hold the encoder that {_CONFIG} describes: {error}") from error
    return served.eval()
