from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.bundle.preprocessing import ImagePreprocessing
from training.batches.image_batches import ImageFeed
from training.methods.base import ImageBatch, SupportSpec
from training.streams import Position, Streams
from training.views.spec import ViewSpec

CPU = torch.device("cpu")
PLAIN = ViewSpec(
    size_px=4, crop_scale=(1, 1), crop_ratio=(1, 1), flip_probability=0, jitter_probability=0, grey_probability=0
)


class Levels:
    """Image i is grey of level i."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), 4, 4, 3)).copy()


def feed_of(**fields: object) -> ImageFeed:
    defaults: dict[str, object] = {
        "source": Levels(),
        "indices": np.arange(100, 123),
        "views": (PLAIN,),
        "preprocessing": ImagePreprocessing(size_px=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        "images_per_step": 5,
    }
    return ImageFeed(**{**defaults, **fields})  # type: ignore[arg-type]  # fields by name


def batch_of(feed: ImageFeed, position: Position, seed: int = 0) -> ImageBatch:
    batch: ImageBatch = feed.finish(feed.load(position, Streams(seed)), position, Streams(seed), CPU)
    return batch


def places(feed: ImageFeed, epoch: int, world_size: int = 1) -> list[list[int]]:
    steps = feed.steps_per_epoch(world_size)
    at = [Position(0, epoch, step, rank, world_size) for step in range(steps) for rank in range(world_size)]
    return [feed.load(position, Streams(0)).places.tolist() for position in at]


def test_an_epoch_shows_each_image_at_most_once_and_drops_the_rest() -> None:
    shown = [place for batch in places(feed_of(), 0) for place in batch]

    assert len(shown) == len(set(shown)) == 20
    assert set(shown) < set(range(23))


def test_order_differs_by_epoch_and_leftovers_get_their_turn() -> None:
    feed = feed_of()

    assert places(feed, 0) == places(feed, 0) != places(feed, 1)
    assert {place for epoch in range(8) for batch in places(feed, epoch) for place in batch} == set(range(23))


def test_processes_share_an_epoch() -> None:
    assert places(feed_of(), 2, world_size=2) == places(feed_of(), 2)


def test_the_batch_holds_the_right_pixels_normalised() -> None:
    feed = feed_of()
    position = Position(1, 0, 1)
    loaded = feed.load(position, Streams(0))

    batch = feed.finish(loaded, position, Streams(0), CPU)

    expected = ((loaded.places + 100) / 255 - 0.5) / 0.25
    assert batch.index.tolist() == loaded.places.tolist()
    assert batch.views[0].shape == (5, 3, 4, 4)
    assert torch.allclose(batch.views[0][:, 1, 2, 2], torch.tensor(expected, dtype=torch.float32), atol=1e-5)
    assert batch.label is None


def test_views_are_drawn_per_step_and_rank() -> None:
    noisy = ViewSpec(size_px=4, brightness=0.9, jitter_probability=1.0, grey_probability=0)
    feed = feed_of(views=(noisy, noisy))
    loaded = feed.load(Position(0, 0, 0), Streams(0))

    def views(position: Position) -> tuple[torch.Tensor, ...]:
        return feed.finish(loaded, position, Streams(0), CPU).views

    first, second = views(Position(0, 0, 0))
    assert not torch.equal(first, second)
    assert torch.equal(first, views(Position(0, 0, 0))[0])
    assert not torch.equal(first, views(Position(1, 0, 1))[0])
    assert not torch.equal(first, views(Position(0, 0, 0, 1, 2))[0])


def test_labels_follow_their_images() -> None:
    feed = feed_of(labels=np.arange(23) * 10)
    position = Position(0, 0, 0)

    batch = feed.finish(feed.load(position, Streams(0)), position, Streams(0), CPU)

    assert batch.label is not None
    assert torch.equal(batch.label, batch.index * 10)


def test_a_withheld_label_changes_neither_order_nor_views() -> None:
    all_shown, some = (np.arange(23), np.where(np.arange(23) % 2, -1, np.arange(23)))
    noisy = ViewSpec(size_px=4, brightness=0.9, jitter_probability=1.0)
    batches = [
        batch_of(feed_of(labels=labels, views=(noisy,)), Position(2, 0, 2)) for labels in (all_shown, some, None)
    ]

    assert all(torch.equal(batch.index, batches[0].index) for batch in batches)
    assert all(torch.equal(batch.views[0], batches[0].views[0]) for batch in batches)
    index, label = batches[1].index, batches[1].label
    assert label is not None
    assert label.dtype == torch.int64
    assert torch.equal(label, torch.where(index % 2 == 1, -1, index))


# Places 0, 3, 6, ... are of class 0, those after them of class 1, and the rest have no label.
CLASSES = np.array([0, 1, -1] * 7 + [0, 1])


def support_of(position: Position, seed: int = 0, spec: ViewSpec = PLAIN) -> tuple[list[int], list[int]]:
    """Returns the places of a step's support, read off its pixels, and its labels."""
    feed = feed_of(labels=CLASSES, support=SupportSpec(images_per_class=3, views=(spec,)))
    support = batch_of(feed, position, seed).support
    assert support is not None
    levels = (support.views[0][:, 0, 2, 2] * 0.25 + 0.5) * 255 - 100
    return levels.round().int().tolist(), support.label.tolist()


def test_the_support_shows_labelled_images_of_every_class_with_their_labels() -> None:
    for step in range(20):
        shown, labels = support_of(Position(step, 0, step % 4))

        assert labels == [0, 1, 0, 1, 0, 1]
        assert CLASSES[shown].tolist() == labels
        assert len(set(shown)) == 6


def test_the_support_is_drawn_anew_by_step_rank_and_seed_and_repeats() -> None:
    first = support_of(Position(0, 0, 0))

    assert support_of(Position(0, 0, 0)) == first
    assert support_of(Position(1, 0, 1)) != first
    assert support_of(Position(0, 0, 0, 1, 2)) != first
    assert support_of(Position(0, 0, 0), seed=1) != first


def test_a_support_leaves_the_batch_as_it_is() -> None:
    noisy = ViewSpec(size_px=4, brightness=0.9, jitter_probability=1.0)
    supports = (None, SupportSpec(images_per_class=2, views=(noisy, noisy)))
    without, beside = (
        batch_of(feed_of(labels=CLASSES, views=(noisy,), support=support), Position(1, 0, 1)) for support in supports
    )

    assert without.support is None
    assert torch.equal(without.index, beside.index)
    assert torch.equal(without.views[0], beside.views[0])


def test_the_supports_views_are_its_own() -> None:
    noisy = ViewSpec(size_px=6, brightness=0.9, jitter_probability=1.0)
    feed = feed_of(labels=CLASSES, support=SupportSpec(images_per_class=2, views=(PLAIN, noisy, noisy)))

    support, batch = batch_of(feed, Position(0, 0, 0)).support, batch_of(feed, Position(0, 0, 0))

    assert support is not None
    assert [tuple(view.shape) for view in support.views] == [(4, 3, 4, 4), (4, 3, 6, 6), (4, 3, 6, 6)]
    assert not torch.equal(support.views[1], support.views[2])
    assert len(batch.views) == 1


def test_a_support_without_labels_is_refused() -> None:
    support = SupportSpec(images_per_class=1, views=(PLAIN,))
    with pytest.raises(ValueError, match="a support is drawn from labelled images, and there are no labels"):
        feed_of(support=support)
    with pytest.raises(ValueError, match=r"none has one of: \[0\]"):
        feed_of(support=support, labels=np.ones(23, dtype=np.int64)).load(Position(0, 0, 0), Streams(0))


def test_too_large_batches_are_refused_with_the_flag() -> None:
    with pytest.raises(ValueError, match=r"--batch-size \(24\) must be <= the training images \(23\)"):
        feed_of(images_per_step=24)
    with pytest.raises(ValueError, match=r"--batch-size \(12\) times --devices \(2\)"):
        feed_of(images_per_step=12).steps_per_epoch(2)
    with pytest.raises(ValueError, match=r"labels \(2\) must be as many as indices \(23\)"):
        feed_of(labels=np.zeros(2, dtype=np.int64))
