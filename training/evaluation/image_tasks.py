"""What an image encoder is asked: the label, the other vendor's drawing; and how its vectors lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.corpora.withheld_labels import withhold_labels
from training.evaluation.alignment_uniformity import alignment_distances
from training.evaluation.crops import make_crop
from training.evaluation.few_labels import few_label_hits
from training.evaluation.geometry import measure_spread
from training.evaluation.held_out_images import HeldOutImages, ImageTaskConfig
from training.evaluation.knn import NeighbourVote, predict_labels
from training.evaluation.lidar import lidar
from training.evaluation.linear_probe import fit_linear_probe
from training.evaluation.measurement import Measurement, PerQuery, TaskUnavailableError
from training.evaluation.rank_measurements import CUTOFFS
from training.evaluation.results import Parameter
from training.evaluation.retrieval import rank_retrieval
from training.evaluation.vendors import VendorDrawings, find_vendor_drawings
from training.run_config import LabelConfig

__all__ = ["IMAGE_TASKS", "ImageTask"]

ImageTask = Callable[[HeldOutImages, ImageTaskConfig], list[Measurement]]
"""Measures one thing, or raises `TaskUnavailableError`."""


def measure_knn(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:
    """Predicts held-out labels from the nearest training images: weighted, plain, and by the single nearest.

    Args:
        images: Held-out and training images with labels.
        config: `neighbours` and `temperature`.

    Returns:
        Three accuracies.

    Raises:
        TaskUnavailableError: One side has no labels.
    """
    queries, bank, labels = _labelled(images, "knn")
    bank_vectors, vectors = images.bank_vectors[bank], images.vectors[queries]
    bank_labels, right_labels = labels[images.bank_indices[bank]], labels[images.indices[queries]]
    k = min(config.neighbours, len(bank))
    votes = (
        NeighbourVote(k=k, temperature=config.temperature),
        NeighbourVote(k=k, temperature=None),
        NeighbourVote(k=1, temperature=None),
    )
    found = []
    for vote in votes:
        right = predict_labels(vectors, bank_vectors, bank_labels, vote) == right_labels
        weighting = "plain" if vote.temperature is None else f"weighted, T {vote.temperature}"
        found.append(_accuracy("knn", right, {"k": vote.k, "vote": weighting}, len(bank)))
    return found


def measure_linear_probe(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:
    """Fits a linear classifier on training images' vectors and predicts held-out labels.

    Args:
        images: Held-out and training images with labels.
        config: `probe`.

    Returns:
        The accuracy.

    Raises:
        TaskUnavailableError: One side has no labels, or the training images are too few or of one class.
    """
    queries, bank, labels = _labelled(images, "linear-probe")
    bank_labels = labels[images.bank_indices[bank]]
    try:
        result = fit_linear_probe(images.bank_vectors[bank], bank_labels, images.vectors[queries], config.probe)
    except ValueError as error:
        raise TaskUnavailableError(f"linear-probe: {error}") from error
    right = result.predictions == labels[images.indices[queries]]
    return [_accuracy("linear-probe", right, {}, len(bank))]


def measure_few_labels(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:
    """Fits linear classifiers on a few labels of every class, over several draws.

    Args:
        images: Held-out and training images with labels.
        config: `labels_per_class`, `label_fractions`, `label_draws` and `probe`.

    Returns:
        For each number and share of labels the mean accuracy over the draws, and its standard deviation between them.

    Raises:
        TaskUnavailableError: One side has no labels, or no class has as many as the smallest number.
    """
    queries, bank, labels = _labelled(images, "few-label")
    bank_labels, right_labels = labels[images.bank_indices[bank]], labels[images.indices[queries]]
    found: list[Measurement] = []
    counts = [LabelConfig(labels_per_class=count) for count in config.labels_per_class]
    for shown in [*counts, *(LabelConfig(label_fraction=share) for share in config.label_fractions)]:
        try:
            hits = few_label_hits(
                (images.bank_vectors[bank], bank_labels),
                (images.vectors[queries], right_labels),
                shown=shown,
                draws=config.label_draws,
                probe=config.probe,
            )
        except ValueError as error:
            if not found:
                raise TaskUnavailableError(f"few-label: {error}") from error
            continue
        count = int((withhold_labels(bank_labels, shown) >= 0).sum())
        budget = "label share" if shown.labels_per_class is None else "labels per class"
        settings: dict[str, Parameter] = {
            budget: shown.labels_per_class or shown.label_fraction,
            "draws": config.label_draws,
        }
        found.append(replace(_accuracy("few-label", hits[0] > 0, settings, count), outcome=PerQuery(hits.mean(axis=0))))
        between = float(hits.mean(axis=1).std(ddof=1)) if len(hits) > 1 else 0.0
        found.append(replace(found[-1], metric="accuracy std over draws", outcome=between))
    return found


def _labelled(images: HeldOutImages, task: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows of labelled queries and bank items, and all labels."""
    labels = images.data.labels
    if labels is None:
        raise TaskUnavailableError(f"{task} needs labels, and the pack has none; leave the task out")
    queries = np.flatnonzero(labels[images.indices] >= 0)
    bank = np.flatnonzero(labels[images.bank_indices] >= 0)
    if len(queries) == 0 or len(bank) == 0:
        raise TaskUnavailableError(
            f"{task} needs labelled images in the train split and the one measured; "
            f"there are {len(bank)} and {len(queries)}"
        )
    return queries, bank, labels


def _accuracy(task: str, right: NDArray[np.bool_], parameters: dict[str, Parameter], bank_count: int) -> Measurement:
    return Measurement(
        task=task,
        metric="accuracy",
        outcome=PerQuery(right.astype(np.float64)),
        parameters=parameters,
        n_gallery=bank_count,
        n_query=len(right),
        labels_used=bank_count,
    )


def measure_cross_vendor(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:  # noqa: ARG001 - interface
    """Finds each held-out drawing's concept among another vendor's drawings of all held-out concepts.

    Args:
        images: Held-out drawings with vendors and concepts.
        config: Makes no difference here.

    Returns:
        MRR and recalls, the mean over all ordered pairs of vendors, and R@1 of each pair.

    Raises:
        TaskUnavailableError: There are no vendors.
    """
    drawings = find_vendor_drawings(images.data, images.indices)
    concepts = np.arange(len(drawings.groups))
    ranks = {
        (one, other): rank_retrieval(
            images.vectors[drawings.rows[one]], images.vectors[drawings.rows[other]], concepts, concepts
        )
        for one, other in drawings.directions
    }
    return [*_mean_over_directions(drawings, ranks), *_each_direction(drawings, ranks)]


def _mean_over_directions(
    drawings: VendorDrawings, ranks: dict[tuple[int, int], NDArray[np.int64]]
) -> list[Measurement]:
    """A concept's value is its mean over the directions, so that an interval is drawn over concept groups."""
    stacked = np.stack(list(ranks.values()))  # [directions, concepts]
    per_concept = {"mrr": (1.0 / stacked).mean(axis=0)}
    per_concept |= {f"recall@{k}": (stacked <= k).mean(axis=0) for k in CUTOFFS}
    return [
        _vendor_measurement(drawings, metric, f"mean of {len(ranks)}", values, stacked.size)
        for metric, values in per_concept.items()
    ]


def _each_direction(drawings: VendorDrawings, ranks: dict[tuple[int, int], NDArray[np.int64]]) -> list[Measurement]:
    return [
        _vendor_measurement(
            drawings,
            "recall@1",
            f"{drawings.vendors[one]} to {drawings.vendors[other]}",
            (found == 1).astype(np.float64),
            len(found),
        )
        for (one, other), found in ranks.items()
    ]


def _vendor_measurement(
    drawings: VendorDrawings, metric: str, direction: str, values: NDArray[np.float64], query_count: int
) -> Measurement:
    return Measurement(
        task="cross-vendor",
        metric=metric,
        outcome=PerQuery(values, drawings.groups),
        parameters={"direction": direction},
        n_gallery=len(values),
        n_query=query_count,
    )


def measure_image_geometry(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:
    """Describes how the vectors lie: alignment of vendors' drawings or of two views, uniformity, effective rank.

    Args:
        images: Held-out images.
        config: `view_pairs` and `seed`, where there are no vendors.

    Returns:
        Alignment, uniformity and, where there are more images than dimensions, RankMe and LiDAR.
    """
    vectors = images.vectors
    try:
        drawings = find_vendor_drawings(images.data, images.indices)
    except TaskUnavailableError:
        distances, clusters, pairs = _view_distances(images, config), None, "views"
    else:
        ordered = [(one, other) for one, other in drawings.directions if one < other]
        distances = np.concatenate(
            [alignment_distances(vectors[drawings.rows[one]], vectors[drawings.rows[other]]) for one, other in ordered]
        )
        clusters, pairs = np.tile(drawings.groups, len(ordered)), "vendors"
    alignment = Measurement(
        task="geometry",
        metric="alignment",
        outcome=PerQuery(distances, clusters),
        parameters={"pairs": pairs},
        n_query=len(distances),
    )
    return [alignment, *measure_spread(vectors), *_measure_lidar(images, config)]


def _measure_lidar(images: HeldOutImages, config: ImageTaskConfig) -> list[Measurement]:
    """Views of a seeded sample, as many images as dimensions at least; none where there are fewer."""
    rng = np.random.default_rng([config.seed, 1])
    chosen = np.sort(rng.permutation(images.indices)[: config.lidar_images])
    if len(chosen) <= images.vectors.shape[1]:
        return []
    pixels = images.data.read(chosen)
    crops = [make_crop(image, rng) for image in pixels for _ in range(config.lidar_views)]
    views = images.subject.embed_rgb(crops).reshape(len(chosen), config.lidar_views, -1)
    settings: dict[str, Parameter] = {"images": len(chosen), "views": config.lidar_views}
    return [
        Measurement(task="geometry", metric="lidar", outcome=lidar(views), parameters=settings, n_query=len(chosen))
    ]


def _view_distances(images: HeldOutImages, config: ImageTaskConfig) -> NDArray[np.float64]:
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(images.indices)[: config.view_pairs])
    pixels = images.data.read(chosen)
    first, second = ([make_crop(image, rng) for image in pixels] for _ in range(2))
    return alignment_distances(images.subject.embed_rgb(first), images.subject.embed_rgb(second))


IMAGE_TASKS: dict[str, ImageTask] = {
    "knn": measure_knn,
    "linear-probe": measure_linear_probe,
    "few-label": measure_few_labels,
    "cross-vendor": measure_cross_vendor,
    "geometry": measure_image_geometry,
}
"""The image tasks, by the name a user types."""
