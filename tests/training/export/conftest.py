from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from models.bundle.manifest import Manifest
from tests.training.export.tiny_sources import TRANSFORMER, TWO_GRUS, image_source, text_source
from training.export.export import export_source
from training.export.source import ExportConfig, ExportSource, ReferenceSample

REFERENCE = ReferenceSample(items=["a cat", "the dog sat", "one two three", "stars"], source="four texts")


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle and what it was made from; the tests only read it."""

    source: ExportSource
    path: Path
    manifest: Manifest


def _export(source: ExportSource, path: Path, config: ExportConfig) -> Exported:
    return Exported(source, path, export_source(source, path, config))


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    config = ExportConfig(precisions=("int8",), query_prompt="query: ", results=({"metric": "mrr", "value": 0.5},))
    path = tmp_path_factory.mktemp("transformer") / "My Encoder_v1"
    return _export(text_source(TRANSFORMER, reference=REFERENCE), path, config)


@pytest.fixture(scope="session")
def two_grus(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return _export(text_source(TWO_GRUS), tmp_path_factory.mktemp("grus") / "grus", ExportConfig(name="grus"))


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return _export(image_source(), tmp_path_factory.mktemp("picture") / "picture", ExportConfig())
