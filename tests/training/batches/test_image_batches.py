from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.bundle.preprocessing import ImagePreprocessing
from training.batches.image_batches import ImageFeed
from training.fit.streams import Position, Streams
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


def test_too_large_batches_are_refused_with_the_flag() -> None:
    with pytest.raises(ValueError, match=r"--batch-size \(24\) must be <= the training images \(23\)"):
        feed_of(images_per_step=24)
    with pytest.raises(ValueError, match=r"--batch-size \(12\) times --devices \(2\)"):
        feed_of(images_per_step=12).steps_per_epoch(2)
    with pytest.raises(ValueError, match=r"labels \(2\) must be as many as indices \(23\)"):
        feed_of(labels=np.zeros(2, dtype=np.int64))
