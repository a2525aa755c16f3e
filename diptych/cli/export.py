"""`diptych export` and `diptych verify`: make a bundle, and check one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from models.bundle.encoder import Modality
    from training.export.source import ReferenceSample
    from training.export.weights_source import WeightsFile

__all__ = ["Export", "Verify"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Seals a training run or a model directory into a bundle, which serves without torch.

    ONNX Runtime must reproduce torch on golden inputs, alone and in padded batches; otherwise there is no bundle.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A run folder of `diptych train`, a Hugging Face / sentence-transformers directory, or a file of an image
    backbone's weights (.safetensors, .pth)."""
    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    """The bundle to make; its last part is the encoder's name unless --name says otherwise."""
    architecture: str | None = None
    """A file of weights: the image architecture that they are of, such as resnet50 or efficientnet-lite0."""
    size_px: int | None = None
    """Side of the square that an image encoder sees; None: what a run was trained with, 224 for a file of weights. A
    convolutional encoder may gain from more than it was trained with: see `diptych eval --size-px`."""
    resize: Literal["crop", "squash"] = "crop"
    """A file of weights: whether the middle of an oblong is cut out or all of it squashed."""
    normalization: Literal["imagenet", "symmetric"] | None = None
    """A file of weights: what pixels are normalised by. None: symmetric for efficientnet-lite0, imagenet otherwise."""
    precision: tuple[Literal["fp32", "int8"], ...] = ("fp32",)
    """Graphs to make; fp32 is always made."""
    int8: Literal["dynamic", "static"] | None = None
    """Make an int8 graph, its scales taken from each batch (dynamic) or from --calibrate (static: a vector does not
    depend on its neighbours, and convolutions can be int8 too). None: dynamic where --precision names int8."""
    calibrate: Path | None = None
    """Real inputs for static int8: a pack, a file of one text a line or .jsonl, a folder of images. Some are calibrated
    on, others measured on. None: the run's pack."""
    measure: Path | None = None
    """Real inputs, as for --calibrate, on which the loss of retrieval is measured. None: what --calibrate leaves, or
    the run's validation data."""
    max_int8_loss: float = 0.1
    """Refuse an int8 graph that misses more of the fp32 graph's 10 nearest neighbours, in [0, 1]."""
    truncate_to: tuple[int, ...] = ()
    """Widths that clients may ask for. None: of 1/2, 1/4 and 1/8 of the encoder's, those in --max-dimension-loss."""
    max_dimension_loss: float = 0.1
    """Offer a shorter width that misses at most this of the 10 nearest neighbours, in [0, 1]."""
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
        from diptych.cli.bundle_text import describe_bundle
        from models.bundle.manifest import Quantisation
        from training.evaluation.results import read_results
        from training.export.export import export_source, read_source, require_free
        from training.export.source import ExportConfig

        require_free(self.bundle, overwrite=self.overwrite)
        weights = self._describe_weights()
        source = read_source(self.source, weights, image_size_px=None if weights else self.size_px)
        calibration, reference = self._read_samples(source.modality)
        config = ExportConfig(
            name=self.name,
            version=self.version,
            precisions=(*self.precision, *(() if self.int8 is None else ("int8",))),
            quantisation=Quantisation(self.int8 or "dynamic"),
            calibration=calibration,
            reference=reference,
            max_int8_loss=self.max_int8_loss,
            truncate_to=self.truncate_to,
            max_dimension_loss=self.max_dimension_loss,
            results=[row.to_json() for file in self.results for row in read_results(file)],
            query_prompt=self.prompt_query,
            document_prompt=self.prompt_document,
            overwrite=self.overwrite,
        )
        manifest = export_source(source, self.bundle, config)
        print(describe_bundle(self.bundle, manifest))
        return 0

    def _describe_weights(self) -> WeightsFile | None:
        from models.bundle.preprocessing import Resize
        from models.config import Normalization
        from training.export.weights_source import WeightsFile

        if self.architecture is None:
            return None
        return WeightsFile(
            architecture=self.architecture,
            size_px=224 if self.size_px is None else self.size_px,
            resize=Resize(self.resize),
            normalization=None if self.normalization is None else Normalization(self.normalization),
        )

    def _read_samples(self, modality: Modality) -> tuple[ReferenceSample | None, ReferenceSample | None]:
        """Returns what to calibrate on and what to measure on, where they are named."""
        from training.export.samples import divide_inputs, read_calibration, read_inputs

        measured = None if self.measure is None else read_inputs(self.measure, modality)
        if self.calibrate is None:
            return None, measured
        if measured is None:
            return divide_inputs(self.calibrate, modality)
        return read_calibration(self.calibrate, modality), measured


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
        from diptych.cli.bundle_text import describe_report
        from models.bundle.verify import verify_bundle

        report = verify_bundle(self.bundle, threads=self.threads)
        print(json.dumps(report.to_json(), indent=2) if self.json else describe_report(report))
        return 0 if report.passed else 1
