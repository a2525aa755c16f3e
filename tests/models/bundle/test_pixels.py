from __future__ import annotations

import contextlib
import struct
import threading
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.bundle.pixels import (
    ImageError,
    ImagePreprocessing,
    ImageTooLargeError,
    Resize,
    decode_image,
    normalise_image,
    resize_image,
)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(height: int = 12, width: int = 20) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 20, columns * 12, 255 - rows * 10], axis=2).astype(np.uint8)


def test_a_png_comes_back_exactly() -> None:
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(gradient()))), gradient())


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("BMP", {}), ("PNG", {"optimize": True})])
def test_lossless_formats_come_back_exactly(kind: str, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(gradient()), kind, **options)), gradient())


def test_a_jpeg_comes_back_nearly() -> None:
    found = decode_image(encode(Image.fromarray(gradient()), "JPEG", quality=95, subsampling=0))
    assert np.abs(found.astype(int) - gradient()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation: int) -> None:
    upright = gradient()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)

    np.testing.assert_array_equal(decode_image(data), upright)


def test_a_broken_exif_block_leaves_the_picture_readable() -> None:
    data = encode(Image.fromarray(gradient()), "JPEG", exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert decode_image(data).shape == (12, 20, 3)


def test_grey_becomes_rgb() -> None:
    found = decode_image(encode(Image.fromarray(gradient()[:, :, 1])))
    np.testing.assert_array_equal(found, np.repeat(gradient()[:, :, 1:2], 3, axis=2))


def test_black_and_white_becomes_rgb() -> None:
    found = decode_image(encode(Image.new("1", (3, 2), 1)))
    assert found.tolist() == [[[255, 255, 255]] * 3] * 2


def test_sixteen_bits_keep_their_upper_byte() -> None:
    deep = np.array([[0, 255, 256], [32768, 40000, 65535]], dtype=np.uint16)
    found = decode_image(encode(Image.fromarray(deep)))
    assert found[:, :, 0].tolist() == [[0, 0, 1], [128, 156, 255]]
    assert (found[:, :, 0] == found[:, :, 2]).all()


def test_transparent_grey_of_sixteen_bits_shows_the_background() -> None:
    deep = np.array([[7, 65535]], dtype=np.uint16)
    found = decode_image(
        encode(Image.fromarray(deep), transparency=7), ImagePreprocessing(size_px=8, background=(1, 2, 3))
    )
    assert found.tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk_is_converted() -> None:
    # Full cyan ink takes away all red.
    found = decode_image(encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100))
    assert found[4, 4, 0] < 10
    assert found[4, 4, 1] > 245


def test_palettes_are_resolved() -> None:
    image = Image.fromarray(gradient()).quantize(8)
    np.testing.assert_array_equal(decode_image(encode(image)), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_the_background() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = [0, 255, 128]
    data = encode(Image.fromarray(rgba))

    assert decode_image(data)[0].tolist() == [[255, 255, 255], [200, 0, 0], [227, 127, 127]]
    assert decode_image(data, ImagePreprocessing(size_px=8, background=(0, 0, 255)))[0].tolist()[0] == [0, 0, 255]


def test_a_transparent_palette_colour_is_laid_on_the_background() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = decode_image(encode(image, transparency=0), ImagePreprocessing(size_px=8, background=(9, 9, 9)))
    assert found.tolist() == [[[9, 9, 9], [40, 50, 60]]]


def test_a_gif_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (4, 3), (255, 0, 0)), Image.new("RGB", (4, 3), (0, 0, 255))
    data = encode(first, "GIF", save_all=True, append_images=[second])
    assert decode_image(data).tolist() == [[[255, 0, 0]] * 4] * 3


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"%PDF-1.7"])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=f"the {len(data)} bytes are no JPEG, PNG, WebP, GIF or BMP image"):
        decode_image(data)


def test_other_formats_that_pillow_knows_are_refused() -> None:
    with pytest.raises(ImageError, match="no JPEG, PNG, WebP, GIF or BMP"):
        decode_image(encode(Image.fromarray(gradient()), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_cut_image_is_refused_whatever_its_format(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    for keep in (14, 30, len(data) // 2):
        with pytest.raises(ImageError):
            decode_image(data[:keep])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_flipped_bytes_never_escape_as_another_error(kind: str) -> None:
    rng = np.random.default_rng(1)
    data = encode(Image.fromarray(gradient(24, 24)), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd tags in damaged files
        for _ in range(60):
            damaged = bytearray(data)
            for place in rng.integers(2, len(data), 4):
                damaged[place] = rng.integers(0, 256)
            with contextlib.suppress(ImageError):
                assert decode_image(bytes(damaged), max_pixels=10_000).dtype == np.uint8


def test_too_many_bytes_are_refused_unseen() -> None:
    with pytest.raises(ImageTooLargeError, match="has 1,001 bytes, the limit is 1,000; send a smaller file"):
        decode_image(b"\xff" * 1001, max_bytes=1000)


def test_too_many_pixels_are_refused() -> None:
    data = encode(Image.new("RGB", (101, 100)))
    with pytest.raises(ImageTooLargeError, match=r"101 x 100 = 10,100 pixels, the limit is 10,000; scale it down"):
        decode_image(data, max_pixels=10_000)
    assert decode_image(data, max_pixels=10_100).shape == (100, 101, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises what its few bytes of content do not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    # 10,000 squared is where Pillow itself would only warn, 60,000 squared where it would raise.
    with pytest.raises(ImageTooLargeError, match="pixels, the limit is 40,000,000"):
        decode_image(bomb(side, side))


def test_pillows_process_wide_limit_is_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(encode(Image.fromarray(gradient()))).shape == (12, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_limits_of_several_threads_do_not_meet() -> None:
    data = encode(Image.new("RGB", (30, 30)))
    wrong: list[str] = []

    def decode_often(limit: int) -> None:
        for _ in range(50):
            try:
                decode_image(data, max_pixels=limit)
                refused = False
            except ImageTooLargeError:
                refused = True
            if refused != (limit < 900):
                wrong.append(f"limit {limit}, refused {refused}")

    threads = [threading.Thread(target=decode_often, args=(limit,)) for limit in (899, 900, 100, 5000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def drafted(size_px: int = 32, **settings: Any) -> ImagePreprocessing:
    return ImagePreprocessing(size_px=size_px, jpeg_draft=True, **settings)


@pytest.mark.parametrize(
    ("preprocessing", "shape"),
    [
        (drafted(), (75, 100)),  # an eighth would be 75 high, and 64 are needed
        (drafted(64), (150, 200)),
        (drafted(128), (300, 400)),
        (drafted(224), (600, 800)),
        (drafted(32, resize=Resize.CROP, shortest_edge_px=64), (150, 200)),
        (ImagePreprocessing(size_px=32), (600, 800)),
    ],
)
def test_a_draft_of_a_large_jpeg_has_twice_what_the_square_needs(
    preprocessing: ImagePreprocessing, shape: tuple[int, int]
) -> None:
    photo = encode(Image.fromarray(gradient(600, 800)), "JPEG")
    assert decode_image(photo, preprocessing).shape[:2] == shape


def test_a_draft_is_turned_upright_and_looks_like_the_whole() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    rows, columns = np.mgrid[0:600, 0:800]
    smooth = np.stack([rows * 0.4, columns * 0.3, 255 - rows * 0.3], axis=2).astype(np.uint8)
    photo = encode(Image.fromarray(smooth), "JPEG", quality=95, exif=turned.tobytes())
    draft, whole = (decode_image(photo, drafted(size_px)) for size_px in (32, 4000))
    assert (draft.shape, whole.shape) == ((100, 75, 3), (800, 600, 3))
    one, other = (resize_image(image, drafted()).astype(int) for image in (draft, whole))
    assert np.abs(one - other).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF"])
def test_only_a_jpeg_has_a_draft(kind: str) -> None:
    picture = encode(Image.fromarray(gradient(300, 300)), kind)
    np.testing.assert_array_equal(decode_image(picture, drafted(8)), decode_image(picture))


def test_a_drafts_limit_is_on_the_whole_image() -> None:
    photo = encode(Image.fromarray(gradient(600, 800)), "JPEG")
    with pytest.raises(ImageTooLargeError, match="480,000 pixels, the limit is 479,999"):
        decode_image(photo, drafted(), max_pixels=479_999)


def test_squashing_keeps_everything_and_cropping_the_middle() -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255

    squashed = resize_image(wide, ImagePreprocessing(size_px=10))
    cropped = resize_image(wide, ImagePreprocessing(size_px=10, resize=Resize.CROP))

    assert squashed.shape == cropped.shape == (10, 10, 3)
    assert squashed[:, 0].max() == 0
    assert squashed[:, 5].min() > 240
    assert cropped.min() == 255


def test_cropping_equals_scaling_first_and_cutting_then() -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    found = resize_image(rgb, ImagePreprocessing(size_px=20, resize=Resize.CROP, shortest_edge_px=30))

    scaled = np.asarray(Image.fromarray(rgb).resize((30, 45), Image.Resampling.BICUBIC)).astype(int)
    wanted = scaled[12:33, 5:25]
    # 45 - 20 is odd, so the exact middle lies between two rows: compare with the mean of both, away from the edge.
    middle = (wanted[:-1] + wanted[1:]) / 2
    assert np.abs(found.astype(float) - middle)[2:-2, 2:-2].mean() < 12
    wide = resize_image(rgb[:60], ImagePreprocessing(size_px=20, resize=Resize.CROP, shortest_edge_px=30))
    exact = np.asarray(Image.fromarray(rgb[:60]).resize((30, 30), Image.Resampling.BICUBIC)).astype(int)[5:25, 5:25]
    assert np.abs(wide.astype(int) - exact)[3:-3, 3:-3].max() <= 1


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255

    small = resize_image(stripes, ImagePreprocessing(size_px=16))

    assert np.abs(small[:, 2:-2].astype(int) - 127).max() <= 2


def test_an_extreme_shape_costs_no_extreme_memory() -> None:
    thread = np.full((1, 200_000, 3), 77, dtype=np.uint8)
    assert (resize_image(thread, ImagePreprocessing(size_px=32, resize=Resize.CROP)) == 77).all()


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[h, w, 3\], not \[4, 4\]"):
        resize_image(np.zeros((4, 4), dtype=np.uint8), ImagePreprocessing(size_px=2))


def test_normalising_is_scaled_less_mean_over_deviation_channels_first() -> None:
    preprocessing = ImagePreprocessing(size_px=2, mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 0.25))
    rgb = np.zeros((2, 2, 3), dtype=np.uint8)
    rgb[0, 1] = (255, 51, 255)

    found = normalise_image(rgb, preprocessing)

    assert found.dtype == np.float32
    assert found[:, 0, 1] == pytest.approx([1.0, 0.2, 0.0])
    assert found[:, 1, 0] == pytest.approx([-1.0, 0.0, -4.0])
    np.testing.assert_array_equal(normalise_image(rgb[None], preprocessing)[0], found)
