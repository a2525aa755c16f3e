"""What is measured of int8 and of shorter vectors when a bundle is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import Encoder
from models.bundle.encodings import Encoding
from models.bundle.load import load_bundle
from models.bundle.manifest import Quantisation, read_manifest
from models.bundle.verify import verify_bundle
from tests.models.bundle.tiny_bundle import words
from tests.training.export.tiny_sources import reuse_graph
from training.export.errors import ExportError
from training.export.export import export_source
from training.export.neighbours import VectorSet
from training.export.retrieval import choose_widths, measure_dial
from training.export.source import ExportConfig, ReferenceSample

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


def draw_texts(count: int, seed: int = 0) -> list[str | bytes]:
    """Texts of words the tiny tokenizer knows, all different."""
    rng = np.random.default_rng(seed)
    texts: dict[str | bytes, None] = {}
    while len(texts) < count:
        texts[" ".join(rng.choice(words(), int(rng.integers(3, 9))))] = None
    return list(texts)


TEXTS = draw_texts(140)
SAMPLE = ReferenceSample(items=TEXTS, source="drawn words")


@pytest.fixture
def quick(transformer: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exports of the same encoder take the graph that is there already."""
    reuse_graph(monkeypatch, transformer.path)
    return transformer


def embed(encoder: Encoder, texts: list[str | bytes]) -> NDArray[np.float64]:
    """Alone, so that dynamic int8 and static can be told apart by nothing else."""
    return np.concatenate([encoder.run([encoder.prepare(text)]) for text in texts]).astype(np.float64)


def ten_nearest(rows: NDArray[np.float64]) -> list[set[int]]:
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return [set(row[:10].tolist()) for row in np.argsort(-scores, axis=1)]


def share(found: list[set[int]], wanted: list[set[int]]) -> float:
    return float(np.mean([len(one & other) / 10 for one, other in zip(found, wanted, strict=True)]))


def test_a_static_bundle_holds_the_recall_that_its_graphs_have(quick: Exported, tmp_path: Path) -> None:
    config = ExportConfig(
        precisions=("int8",),
        quantisation=Quantisation.STATIC,
        calibration=ReferenceSample(items=[*TEXTS[:20], *draw_texts(20, seed=1), "\ud800"], source="others"),
        reference=replace(SAMPLE, items=[*TEXTS, TEXTS[-1], "\ud800"]),
        max_int8_loss=0.5,
    )
    manifest = export_source(quick.source, tmp_path / "b", config)
    (entry,) = manifest.encoders
    int8 = entry.graphs["int8"]

    # 20 were calibrated on, one is a copy and one no text.
    measured = TEXTS[20:]
    exact, other = (
        ten_nearest(embed(load_bundle(tmp_path / "b", precision=precision).encoders["text"], measured))
        for precision in ("fp32", "int8")
    )
    assert int8.quantisation is Quantisation.STATIC
    assert int8.neighbours is not None
    assert (int8.neighbours.n_query, int8.neighbours.n_gallery) == (120, 119)
    assert int8.neighbours.source == "drawn words"
    assert int8.neighbours.recall_at_10 == pytest.approx(share(other, exact), abs=2e-3)
    assert 0.5 < int8.neighbours.recall_at_10 < 1
    assert int8.batch_deviation < 1e-6
    assert int8.batch_tolerance == 0.005
    assert entry.graphs["fp32"].neighbours is None

    assert read_manifest(tmp_path / "b") == manifest
    assert verify_bundle(tmp_path / "b").passed


def test_an_int8_graph_that_loses_too_much_is_refused(quick: Exported, tmp_path: Path) -> None:
    config = ExportConfig(precisions=("int8",), reference=SAMPLE, max_int8_loss=0.001)
    fault = (
        r"its int8 graph \(dynamic\) misses 0\.\d+ of the fp32 graph's 10 nearest neighbours, the limit is 0.001 "
        r"\(140 queries, drawn words\); leave int8 out, try --int8 static, or raise --max-int8-loss"
    )
    with pytest.raises(ExportError, match=fault):
        export_source(quick.source, tmp_path / "b", config)
    assert list(tmp_path.iterdir()) == []


def test_with_few_inputs_nothing_is_claimed(quick: Exported, tmp_path: Path) -> None:
    few = replace(SAMPLE, items=TEXTS[:99])
    config = ExportConfig(precisions=("int8",), reference=few, max_int8_loss=0, truncate_to=(16,))
    (entry,) = export_source(quick.source, tmp_path / "b", config).encoders
    assert entry.statistics is not None
    assert (entry.dial, entry.graphs["int8"].neighbours) == (None, None)
    assert entry.graphs["int8"].quantisation is Quantisation.DYNAMIC
    assert entry.truncatable_dimensions == (16,)


def test_static_int8_needs_inputs(quick: Exported, tmp_path: Path) -> None:
    config = ExportConfig(precisions=("int8",), quantisation=Quantisation.STATIC)
    with pytest.raises(ExportError, match="none are at hand; give --calibrate FILE_OR_PACK, or choose --int8 dynamic"):
        export_source(quick.source, tmp_path / "b", config)
    unusable = ReferenceSample(items=["\ud800"], source="scraps")
    with pytest.raises(ExportError, match="none of the 1 inputs of 'scraps' can be calibrated on"):
        export_source(quick.source, tmp_path / "b", replace(config, calibration=unusable))
    assert list(tmp_path.iterdir()) == []


def test_the_dial_is_what_cutting_and_coding_keep() -> None:
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(150, 32)) * 0.8 ** np.arange(32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    dial = measure_dial(VectorSet(rows, rows), metric="cosine", source="rows", named=(24,))
    table = {(setting.dimension, setting.encoding): setting.recall_at_10 for setting in dial.settings}

    def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    exact = rows.astype(np.float64)
    wanted = ten_nearest(exact)
    codes = np.rint(exact[:, :8] / np.abs(exact[:, :8]).max(axis=1, keepdims=True) * 127)

    assert list(dict.fromkeys(setting.dimension for setting in dial.settings)) == [32, 24, 16, 8]  # 4 would be too few
    assert table[32, Encoding.FLOAT32] == 1
    assert table[16, Encoding.FLOAT32] == pytest.approx(share(ten_nearest(unit(exact[:, :16])), wanted), abs=1e-3)
    assert table[8, Encoding.INT8] == pytest.approx(share(ten_nearest(unit(codes)), wanted), abs=3e-3)
    # Bits tie, so sorting decides by chance; many orders come to what is expected.
    signs = np.where(rows > 0, 1.0, -1.0) @ np.where(rows > 0, 1.0, -1.0).T
    np.fill_diagonal(signs, -np.inf)
    orders = [np.argsort(-(signs + rng.uniform(0, 0.5, signs.shape)), axis=1) for _ in range(30)]
    by_bits = np.mean([share([set(row[:10].tolist()) for row in order], wanted) for order in orders])
    assert table[32, Encoding.BINARY] == pytest.approx(by_bits, abs=0.01)
    assert (dial.n_query, dial.n_gallery, dial.source) == (150, 149, "rows")


def test_widths_are_offered_by_what_they_lose_or_by_name() -> None:
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(150, 32)) * 0.8 ** np.arange(32)).astype(np.float32)
    dial = measure_dial(VectorSet(rows, rows), metric="cosine", source="rows")
    kept = {setting.dimension: setting.recall_at_10 for setting in dial.settings if setting.encoding == "float32"}
    assert 1 > kept[16] > kept[8] > 0

    between = ExportConfig(max_dimension_loss=1 - (kept[16] + kept[8]) / 2)
    assert choose_widths(dial, 32, between) == (16,)
    assert choose_widths(dial, 32, ExportConfig(max_dimension_loss=0)) == ()
    assert choose_widths(dial, 32, ExportConfig(max_dimension_loss=1)) == (16, 8)
    assert choose_widths(dial, 32, ExportConfig(truncate_to=(8, 20, 8))) == (20, 8)


def test_vectors_that_are_not_of_unit_length_are_not_cut() -> None:
    rows = np.random.default_rng(3).normal(size=(50, 32)).astype(np.float32)
    dial = measure_dial(VectorSet(rows, rows), metric="inner_product", source="rows")
    assert {setting.dimension for setting in dial.settings} == {32}
    assert len(dial.settings) == len(Encoding)


@pytest.mark.parametrize("width", [0, 32])
def test_a_named_width_must_be_shorter(quick: Exported, tmp_path: Path, width: int) -> None:
    with pytest.raises(ExportError, match=rf"truncate_to \({width}\) must lie in \[1, 32\)"):
        export_source(quick.source, tmp_path / "b", ExportConfig(truncate_to=(width,)))


def test_named_widths_of_vectors_that_are_not_of_unit_length_are_refused(quick: Exported, tmp_path: Path) -> None:
    source = replace(quick.source, metric="inner_product")
    with pytest.raises(ExportError, match="this one is compared by inner_product: leave it out"):
        export_source(source, tmp_path / "b", ExportConfig(truncate_to=(16,)))


@pytest.mark.parametrize("field", ["max_int8_loss", "max_dimension_loss"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_limit_is_a_share(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} \(.*\) must lie in \[0, 1\]"):
        ExportConfig(**{field: value})  # type: ignore[arg-type]  # one field of several types, by name
