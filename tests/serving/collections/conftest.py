from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.types import CollectionSpec, Hits, IndexKind, IndexSpec, Metric, RecordWrite

DIMENSION = 8
SPACE = "space-a"

# A base is due early, so that tests reach it with few records.
SMALL = CollectionsConfig(
    auto_index_records=300,
    hnsw_min_records=100,
    tail_min_records=100,
    tail_max_records=1_000,
    search_threads=1,
    build_threads=1,
)


def notes_spec(**changes: Any) -> CollectionSpec:
    if isinstance(changes.get("index"), IndexKind):
        changes["index"] = IndexSpec.of_kind(changes["index"])
    return CollectionSpec(**{"name": "notes", "space": SPACE, "dimension": DIMENSION, **changes})


@pytest.fixture
def open_catalogue(tmp_path: Path) -> Iterator[Callable[..., CollectionCatalogue]]:
    """Opens the data folder of this test; closes what is still open at its end."""
    opened: list[CollectionCatalogue] = []

    def open_one(config: CollectionsConfig = SMALL) -> CollectionCatalogue:
        for catalogue in opened:
            catalogue.close()
        opened.append(CollectionCatalogue(tmp_path / "data", config))
        return opened[-1]

    yield open_one
    for catalogue in opened:
        catalogue.close()


@pytest.fixture
def make_collection(open_catalogue: Callable[..., CollectionCatalogue]) -> Callable[..., Collection]:
    """Makes the collection `notes` of 8 dimensions in the space `space-a`."""

    def make(config: CollectionsConfig = SMALL, **changes: Any) -> Collection:
        catalogue = open_catalogue(config)
        catalogue.create(notes_spec(**changes))
        return catalogue.get("notes")

    return make


@pytest.fixture
def reopen(open_catalogue: Callable[..., CollectionCatalogue]) -> Callable[..., Collection]:
    """Closes the data folder, opens it again and returns `notes`."""

    def again(config: CollectionsConfig = SMALL) -> Collection:
        return open_catalogue(config).get("notes")

    return again


@pytest.fixture
def notes(make_collection: Callable[..., Collection]) -> Collection:
    return make_collection()


@pytest.fixture
def write() -> Callable[..., RecordWrite]:
    """Makes a write; without a vector, one that the id determines."""

    def make(identifier: str, vector: Sequence[float] | NDArray[np.float32] | None = None, **rest: Any) -> RecordWrite:
        seed = list(identifier.encode("utf-8", "replace"))
        chosen = np.random.default_rng(seed).standard_normal(DIMENSION) if vector is None else vector
        return RecordWrite(id=identifier, vector=np.asarray(chosen, dtype=np.float32), **rest)

    return make


@pytest.fixture
def assert_nearest() -> Callable[..., None]:
    """Compares hits with a brute-force oracle; among equal scores any choice is right."""

    def check(
        hits: Hits, query: NDArray[np.float32], stored: Mapping[str, NDArray[np.float32]], k: int, metric: Metric
    ) -> None:
        expected = {identifier: oracle_score(query, vector, metric) for identifier, vector in stored.items()}
        best = sorted(expected.values(), reverse=True)[:k]
        scale = max(1.0, *(abs(score) for score in best)) if best else 1.0
        assert len(hits.ids) == len(set(hits.ids)) == len(best)
        np.testing.assert_allclose(hits.scores, best, atol=1e-5 * scale)
        np.testing.assert_allclose(hits.scores, [expected[i] for i in hits.ids], atol=1e-5 * scale)

    return check


def oracle_score(query: NDArray[np.float32], vector: NDArray[np.float32], metric: Metric) -> float:
    a, b = query.astype(np.float64), vector.astype(np.float64)
    if metric is Metric.L2:
        return -float(np.sum((a - b) ** 2))
    product = float(a @ b)
    return product / float(np.linalg.norm(a) * np.linalg.norm(b)) if metric is Metric.COSINE else product
