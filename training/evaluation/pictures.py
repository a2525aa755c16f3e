"""Vectors as pictures: images with their nearest neighbours, and all of them on a map."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA  # type: ignore[import-untyped]  # ships no types

from training.publish import publish_file

__all__ = ["Projection", "draw_map", "draw_sheet", "project"]

_NEIGHBOURS = 8
_NAMED_CLASSES = 20


class Projection(StrEnum):
    """How many dimensions become two."""

    PCA = "pca"
    """The two principal axes: distances are true, but only those along them are seen."""
    UMAP = "umap"
    """Neighbours stay neighbours (McInnes et al. 2018, arXiv:1802.03426); distances between groups mean nothing."""


def draw_sheet(
    images: NDArray[np.uint8], vectors: NDArray[np.float32], path: Path, *, title: str, queries: int = 10, seed: int = 0
) -> None:
    """Draws a seeded sample of images, each with its nearest neighbours and their cosines.

    Args:
        images: `[n, h, w, 3]`, n at least 2.
        vectors: `[n, d]`, unit rows.
        path: The PNG to write; one that is there is replaced at once.
        title: What stands above.
        queries: Rows of the sheet.
        seed: Of the sample.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:queries]
    neighbours = min(_NEIGHBOURS, len(images) - 1)
    scores = vectors[chosen] @ vectors.T
    scores[np.arange(len(chosen)), chosen] = -np.inf  # not itself
    best = np.argsort(-scores, axis=1)[:, :neighbours]
    figure = Figure(figsize=(1.1 * (neighbours + 1), 1.25 * len(chosen) + 0.5))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=1 - 0.65 / (1.25 * len(chosen) + 0.5), hspace=0.3)
    figure.suptitle(title)
    for row, query in enumerate(chosen):
        cells = [(query, "query"), *((found, f"{scores[row, found]:.2f}") for found in best[row])]
        for column, (number, caption) in enumerate(cells):
            axes = figure.add_subplot(len(chosen), neighbours + 1, row * (neighbours + 1) + column + 1)
            axes.imshow(images[number])
            axes.set_title(caption, fontsize="x-small", pad=2)
            axes.set_axis_off()
    _publish(figure, path)


def draw_map(
    vectors: NDArray[np.float32],
    path: Path,
    *,
    title: str,
    labels: NDArray[np.int64] | None = None,
    names: Sequence[str] = (),
    by: Projection = Projection.PCA,
) -> None:
    """Draws vectors on a map, in the colours of their classes where they have any.

    Args:
        vectors: `[n, d]`, n and d at least 2.
        path: The PNG to write; one that is there is replaced at once.
        title: What stands above.
        labels: `[n]`, -1 where there is none.
        names: Of the classes.
        by: How they are projected.

    Raises:
        ValueError: UMAP is asked for and not installed.
    """
    places, axis_names = project(vectors, by)
    figure = Figure(figsize=(8, 6.5))
    axes = figure.add_subplot()
    colours: NDArray[np.int64] = np.full(len(vectors), -1) if labels is None else labels
    for number, name in enumerate(names[:_NAMED_CLASSES]):
        rows = colours == number
        axes.scatter(places[rows, 0], places[rows, 1], s=6, alpha=0.6, label=name)
    rest = (colours < 0) | (colours >= min(len(names), _NAMED_CLASSES))
    axes.scatter(places[rest, 0], places[rest, 1], s=6, alpha=0.4, color="0.6")
    if names:
        axes.legend(fontsize="x-small", markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.subplots_adjust(right=0.78)
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.set_title(title)
    axes.grid(alpha=0.3)
    _publish(figure, path)


def project(
    vectors: NDArray[np.float32], by: Projection = Projection.PCA
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Projects vectors onto a plane.

    Args:
        vectors: `[n, d]`, n and d at least 2; for UMAP n at least 4.
        by: How.

    Returns:
        `[n, 2]`, equal for equal vectors, and what the axes are called.

    Raises:
        ValueError: UMAP is asked for and not installed.
    """
    return _umap(vectors) if by is Projection.UMAP else _principal_axes(vectors)


def _principal_axes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    fitted = PCA(n_components=2, svd_solver="covariance_eigh")
    places: NDArray[np.float64] = fitted.fit_transform(vectors.astype(np.float64))
    first, second = (float(share) for share in fitted.explained_variance_ratio_)
    return places, (f"first axis, {first:.0%} of the variance", f"second axis, {second:.0%}")


def _umap(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ValueError("--map-by umap needs an extra: pip install 'diptych[umap]'; pca needs none") from error
    # One thread and a seed: the same vectors give the same map. Few vectors have fewer neighbours.
    fitted = UMAP(n_neighbors=min(15, len(vectors) - 1), metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(fitted.fit_transform(vectors), dtype=np.float64), ("UMAP 1", "UMAP 2")


def _publish(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # draws without a display
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
