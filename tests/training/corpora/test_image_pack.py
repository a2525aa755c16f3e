"""Image packs: pixels as decoded, parts by group, bad images aside, damage refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundle.pixels import ImagePreprocessing, Resize, decode_image, resize_image
from tests.training.corpora.pictures import bomb, noise, png
from training.corpora import blobs, pixel_shards
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.pack_manifest import PackError
from training.corpora.pixel_shards import Storage
from training.corpora.quarantine import Defect
from training.corpora.splits import Split, SplitFractions

HALF = SplitFractions(validation=0.25, test=0.25)


def make_items(count: int, side: int = 8) -> list[ImageItem]:
    return [
        ImageItem(
            f"i{number}",
            png(noise(number, side, side)),
            label=f"class {number % 3}",
            group=f"group {number // 2}",
            attributes={"vendor": "left" if number % 2 else "right"},
        )
        for number in range(count)
    ]


@pytest.fixture
def pack(tmp_path: Path) -> ImagePack:
    return write_image_pack(make_items(40), tmp_path / "pack", size_px=8, source="noise", fractions=HALF)[0]


def test_pixels_come_back_in_the_order_asked_for(pack: ImagePack) -> None:
    order = np.array([39, 0, 7, 7, 21])
    read = pack.read(order)
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.stack([noise(number) for number in order]))
    assert pack.read(np.array([], dtype=np.int64)).shape == (0, 8, 8, 3)


def test_what_is_read_may_be_changed_without_changing_the_pack(pack: ImagePack) -> None:
    pack.read(np.array([3]))[:] = 0
    assert np.array_equal(pack.read(np.array([3]))[0], noise(3))


def test_numbers_outside_of_the_pack_are_refused(pack: ImagePack) -> None:
    for number in (-1, 40):
        with pytest.raises(IndexError, match=r"must lie in \[0, 40\)"):
            pack.read(np.array([number]))


@pytest.mark.parametrize("storage", [Storage.PLAIN, Storage.PNG])
def test_many_shards_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    monkeypatch.setattr(pixel_shards, "_SHARD_BYTES", 3 * 8 * 8 * 3)  # three images a shard
    monkeypatch.setattr(blobs, "_FILE_BYTES", 600)
    pack, _ = write_image_pack(make_items(10), tmp_path / "pack", size_px=8, source="x", storage=storage)
    shards = list(pack.path.glob("pixels-*.npy")) + list(pack.path.glob("encoded-*.bin"))
    assert len(shards) >= 4
    order = np.random.default_rng(0).permutation(10)
    assert np.array_equal(pack.read(order), np.stack([noise(number) for number in order]))


def test_above_64_px_pixels_are_encoded_without_loss(tmp_path: Path) -> None:
    items = make_items(4, side=80)
    pack, _ = write_image_pack(items, tmp_path / "pack", size_px=65, source="x")
    assert pack.manifest["storage"] == "png"
    expected = resize_image(noise(2, 80, 80), ImagePreprocessing(size_px=65))
    assert np.array_equal(pack.read(np.array([2]))[0], expected)
    small, _ = write_image_pack(items, tmp_path / "small", size_px=64, source="x")
    assert small.manifest["storage"] == "plain"


def test_jpeg_storage_is_close_and_smaller(tmp_path: Path) -> None:
    slope = np.linspace(0, 255, 96 * 96 * 3).reshape(96, 96, 3).astype(np.uint8)
    items = [ImageItem("slope", png(slope))]
    jpeg, _ = write_image_pack(items, tmp_path / "jpeg", size_px=96, source="x", storage=Storage.JPEG)
    read = jpeg.read(np.array([0]))[0].astype(int)
    assert np.abs(read - slope).max() <= 8
    assert np.abs(read - slope).max() > 0


def test_an_oblong_is_squashed_or_cropped_as_told(tmp_path: Path) -> None:
    oblong = np.zeros((8, 24, 3), dtype=np.uint8)
    oblong[:, 8:16] = 255
    items = [ImageItem("bar", png(oblong))]
    crop, _ = write_image_pack(items, tmp_path / "crop", size_px=8, source="x", resize=Resize.CROP)
    squash, _ = write_image_pack(items, tmp_path / "squash", size_px=8, source="x")
    assert (crop.manifest["resize"], squash.manifest["resize"]) == ("crop", "squash")
    assert crop.read(np.array([0])).min() == 255
    assert squash.read(np.array([0]))[0, 4, 0, 0] == 0


def test_transparent_parts_show_the_background(tmp_path: Path) -> None:
    stream = BytesIO()
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(stream, "PNG")
    items = [ImageItem("clear", stream.getvalue())]
    white, _ = write_image_pack(items, tmp_path / "white", size_px=8, source="x")
    red, _ = write_image_pack(items, tmp_path / "red", size_px=8, source="x", background=(255, 0, 0))
    assert white.read(np.array([0])).min() == 255
    assert red.read(np.array([0]))[0, 0, 0].tolist() == [255, 0, 0]


def test_large_jpegs_are_decoded_smaller_where_the_pack_says_so(tmp_path: Path) -> None:
    stream = BytesIO()
    Image.fromarray(np.repeat(noise(1, 100), 4, axis=0).repeat(4, axis=1)).save(stream, "JPEG", quality=95)
    items = [ImageItem("photo", stream.getvalue())]
    whole, _ = write_image_pack(items, tmp_path / "whole", size_px=8, source="x")
    draft, _ = write_image_pack(items, tmp_path / "draft", size_px=8, source="x", jpeg_draft=True)
    assert "jpeg_draft" not in whole.manifest
    assert draft.manifest["jpeg_draft"] is True
    assert draft.fingerprint != whole.fingerprint
    square = ImagePreprocessing(size_px=8, jpeg_draft=True)
    expected = resize_image(decode_image(stream.getvalue(), square), square)
    assert np.array_equal(draft.read(np.array([0]))[0], expected)
    assert not np.array_equal(draft.read(np.array([0])), whole.read(np.array([0])))


def test_labels_groups_ids_and_attributes(pack: ImagePack) -> None:
    assert pack.label_names == ("class 0", "class 1", "class 2")
    assert pack.labels is not None
    assert pack.labels.tolist() == [number % 3 for number in range(40)]
    assert pack.groups is not None
    assert [pack.group_names[group] for group in pack.groups] == [f"group {number // 2}" for number in range(40)]
    assert list(pack.ids) == [f"i{number}" for number in range(40)]
    assert pack.attributes(3) == {"vendor": "left"}


def test_a_pack_without_labels_says_so(tmp_path: Path) -> None:
    items = [ImageItem("a", png(noise(0))), ImageItem("b", png(noise(1)), label="known")]
    unlabelled, _ = write_image_pack(items[:1], tmp_path / "none", size_px=8, source="x")
    assert unlabelled.labels is None
    assert unlabelled.groups is None
    partly, _ = write_image_pack(items, tmp_path / "partly", size_px=8, source="x")
    assert partly.labels is not None
    assert partly.labels.tolist() == [-1, 0]


def test_a_group_is_never_divided(pack: ImagePack) -> None:
    assert pack.groups is not None
    groups = [set(pack.groups[pack.indices(split)].tolist()) for split in Split]
    assert sum(map(len, groups)) == 20 == len(set().union(*groups))
    assert all(groups)


def test_indices_by_part_and_attribute(pack: ImagePack) -> None:
    parts = [pack.indices(split) for split in Split]
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert pack.indices(vendor="left").tolist() == list(range(1, 40, 2))
    both = set(pack.indices(Split.TEST).tolist()) & set(pack.indices(vendor="left").tolist())
    assert pack.indices(Split.TEST, vendor="left").tolist() == sorted(both)
    assert pack.indices(vendor="nobody").tolist() == []
    with pytest.raises(ValueError, match="has the attribute 'maker'; there are: vendor"):
        pack.indices(maker="left")


def test_published_parts_are_kept_and_validation_is_carved_out_of_train(tmp_path: Path) -> None:
    items = [
        ImageItem(f"i{number}", png(noise(number)), split=Split.TEST if number < 10 else Split.TRAIN)
        for number in range(60)
    ]
    pack, _ = write_image_pack(items, tmp_path / "pack", size_px=8, source="x", fractions=HALF)
    assert pack.indices(Split.TEST).tolist() == list(range(10))
    assert 5 <= len(pack.indices(Split.VALIDATION)) <= 20


def test_bad_images_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    good = png(noise(1))
    contents = {"a.png": good, "b.png": good[:60], "c.png": b"", "d.png": bomb(30_000, 30_000), "f.png": b"no image"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    names = [*contents, "gone.png", "z.png"]
    (folder / "z.png").write_bytes(png(noise(2)))
    items = [ImageItem(name, folder / name) for name in names]
    pack, report = write_image_pack(items, tmp_path / "pack", size_px=8, source="x", root=folder)
    assert list(pack.ids) == ["a.png", "z.png"]
    assert np.array_equal(pack.read(np.array([1]))[0], noise(2))
    assert [(image.id, image.defect) for image in report.images] == [
        ("b.png", Defect.DAMAGED),
        ("c.png", Defect.EMPTY),
        ("d.png", Defect.TOO_LARGE),
        ("f.png", Defect.DAMAGED),
        ("gone.png", Defect.UNREADABLE),
    ]
    assert "900,000,000 pixels, the limit is 40,000,000" in report.images[2].reason
    assert report.summary() == "5 of 7 images skipped (2 damaged, 1 empty, 1 too large, 1 unreadable)"
    listed = json.loads((pack.path / "quarantine.json").read_text())
    assert [image["id"] for image in listed["images"]] == ["b.png", "c.png", "d.png", "f.png", "gone.png"]
    assert pack.manifest["quarantined"] == 5


def test_limits_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(noise(0, 50, 50)))
    items = [ImageItem("large", tmp_path / "large.png"), ImageItem("small", png(noise(1)))]
    _, by_pixels = write_image_pack(items, tmp_path / "pixels", size_px=8, source="x", max_pixels=2_499)
    _, by_bytes = write_image_pack(items, tmp_path / "bytes", size_px=8, source="x", max_bytes=1_000)
    _, fits = write_image_pack(items, tmp_path / "fits", size_px=8, source="x", max_pixels=2_500)
    assert [image.id for image in by_pixels.images] == ["large"]
    assert [(image.id, image.defect) for image in by_bytes.images] == [("large", Defect.TOO_LARGE)]
    assert fits.summary() == "all 2 images are good"


def test_nothing_but_bad_images_is_an_error_that_shows_some(tmp_path: Path) -> None:
    items = [ImageItem(f"bad {number}", b"no image") for number in range(5)]
    with pytest.raises(ValueError, match=r"none of the 5 images can be packed: bad 0: .*; bad 1: .*; bad 2: "):
        write_image_pack(items, tmp_path / "pack", size_px=8, source="x")
    with pytest.raises(ValueError, match="none of the 0 images can be packed: there are none"):
        write_image_pack([], tmp_path / "pack", size_px=8, source="x")
    assert list(tmp_path.iterdir()) == []


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two images have the id 'i0'"):
        write_image_pack([*make_items(3), *make_items(1)], tmp_path / "pack", size_px=8, source="x")


def test_items_are_read_only_a_little_ahead(tmp_path: Path) -> None:
    ahead: list[int] = []
    items = make_items(200)

    def stream() -> Iterator[ImageItem]:
        for taken, item in enumerate(items):
            lines = sum(file.stat().st_size > 0 for file in tmp_path.glob(".pack.*/originals-*.bin"))
            ahead.append(taken if not lines else 0)
            yield item

    write_image_pack(stream(), tmp_path / "pack", size_px=8, source="x")
    # Before the first original was on disk (files are buffered), not nearly all items had been taken.
    assert max(ahead) < 150


def test_originals_from_memory_and_from_files(tmp_path: Path, pack: ImagePack) -> None:
    assert np.array_equal(decode_image(pack.original(5)), noise(5))
    file = tmp_path / "images" / "deep" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(png(noise(0, 50, 40)))
    items = [ImageItem("a", file)]
    from_file, _ = write_image_pack(items, tmp_path / "files", size_px=8, source="x", root=tmp_path / "images")
    assert decode_image(from_file.original(0)).shape == (50, 40, 3)
    file.write_bytes(png(noise(1, 50, 40)))
    with pytest.raises(PackError, match="has changed since it was packed"):
        from_file.original(0)
    file.unlink()
    with pytest.raises(PackError, match="cannot be read"):
        from_file.original(0)


def test_the_fingerprint_follows_pixels_and_not_places(tmp_path: Path) -> None:
    fingerprints = []
    for name, seed in (("one", 0), ("two", 0), ("three", 9)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.png").write_bytes(png(noise(seed)))
        items = [ImageItem("a", folder / "a.png")]
        pack, _ = write_image_pack(items, tmp_path / f"{name}-pack", size_px=8, source=name, root=folder)
        fingerprints.append(pack.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_damage_is_refused(pack: ImagePack) -> None:
    shard = pack.path / "pixels-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PackError, match=r"pixels-00000\.npy was altered"):
        ImagePack.open(pack.path)
    shard.write_bytes(content[:-1])
    with pytest.raises(PackError, match=r"pixels-00000\.npy has 7,807 bytes, not 7,808"):
        ImagePack.open(pack.path, verify=False)


@pytest.mark.parametrize("storage", [Storage.PLAIN, Storage.PNG])
def test_a_pack_travels_to_other_processes(tmp_path: Path, storage: Storage) -> None:
    pack, _ = write_image_pack(make_items(10), tmp_path / "pack", size_px=8, source="x", storage=storage)
    # What is sent names the pack; its mapped files are not copied.
    assert len(pickle.dumps(pack)) < 1_000
    # An executor says so where its worker cannot read what it was sent; a Pool would wait for ever.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as worker:
        there = worker.submit(pack.read, np.arange(10)).result()
    assert np.array_equal(there, pack.read(np.arange(10)))


def _pack_without_end(destination: Path, started: Path) -> None:
    def stream() -> Iterator[ImageItem]:
        number = 0
        while True:
            yield ImageItem(f"i{number}", png(noise(number)))
            number += 1
            if number == 50:
                started.touch()

    write_image_pack(stream(), destination, size_px=8, source="x")


def test_a_kill_in_the_middle_leaves_no_pack_and_the_next_run_clears_up(tmp_path: Path) -> None:
    destination, started = tmp_path / "packs" / "pack", tmp_path / "started"
    process = multiprocessing.get_context("spawn").Process(target=_pack_without_end, args=(destination, started))
    process.start()
    while not started.exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not destination.exists()
    left = list(destination.parent.iterdir())
    assert len(left) == 1
    os.utime(left[0], (0, 0))
    write_image_pack(make_items(4), destination, size_px=8, source="x")
    assert [path.name for path in destination.parent.iterdir()] == ["pack"]
