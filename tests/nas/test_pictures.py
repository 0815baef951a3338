"""One image file is read as a viewer shows it, whatever it is written in."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from nas.datasets._pictures import picture_size, read_picture
from searchspaces import DataError

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def written(image: Image.Image, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def png16(pixels: np.ndarray, colour_type: int, clear: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", clear) if clear else b"", chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def grey(content: bytes, **options: Any) -> np.ndarray:
    return read_picture(content, "x", mode="grey", **options)[..., 0]


@pytest.mark.parametrize(
    "content",
    [
        written(Image.fromarray(RAMP), "PNG"),
        written(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"),
        written(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"),
        written(Image.fromarray(RAMP.astype(np.uint16) * 257), "PPM"),
        written(Image.fromarray((RAMP / 255).astype(np.float32)), "TIFF"),
        written(Image.fromarray(np.stack([RAMP, RAMP, RAMP], -1)), "PNG"),
        written(Image.fromarray(RAMP).convert("P"), "PNG"),
        png16(RAMP.astype(np.uint16)[..., None] * 257, 0),
        png16(np.stack([RAMP.astype(np.uint16) * 257] * 3, -1), 2),
    ],
    ids=["8", "16 png", "16 tiff", "16 pgm", "float tiff", "rgb", "palette", "16 grey png", "16 rgb png"],
)
def test_every_depth_is_scaled_to_the_same_values(content: bytes) -> None:
    assert np.array_equal(grey(content), RAMP)


def test_one_bit_is_black_and_white() -> None:
    assert np.array_equal(grey(written(Image.fromarray(RAMP > 100), "PNG")), np.where(RAMP > 100, 255, 0))


def test_deep_tiffs_whose_zero_is_white_are_turned_round() -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.array_equal(grey(written(deep, "TIFF", tiffinfo={262: 0})), 255 - RAMP)


@pytest.mark.parametrize("pixels", [RAMP.astype(np.int32) * 1000, RAMP.astype(np.float32), -RAMP.astype(np.float32)])
def test_values_whose_white_nobody_knows_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"x has values from .* nobody says which is white; save it with 8 or 16"):
        grey(written(Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_stands_upright(form: str, orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16] = 255  # above at the left, as stored
    exif = Image.new("L", (1, 1)).getexif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    path.write_bytes(written(Image.fromarray(stored), form, exif=exif))
    shown = read_picture(path, "x", mode="grey")[..., 0] > 127
    turned = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert shown.shape[::-1] == picture_size(path)
    assert shown.shape == ((32, 16) if orientation > 4 else (16, 32))
    assert [corner for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if shown[corner]] == [turned[orientation]]


@pytest.mark.parametrize("note", [b"Exif\0\0no exif at all", b"junk"])
def test_a_broken_note_is_passed_over(note: bytes) -> None:
    assert np.array_equal(read_picture(written(Image.fromarray(COLOURS), "PNG", exif=note), "x"), COLOURS)


@pytest.mark.parametrize(
    ("background", "under"), [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#102030", (16, 32, 48))]
)
@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "clear grey", "clear colour", "deep", "deep colour", "GIF"])
def test_hidden_colours_never_come_out(kind: str, background: str, under: tuple[int, int, int]) -> None:
    two = np.full((1, 2, 3), 200, dtype=np.uint8)
    two[0, 1] = 90
    alpha = np.array([[0, 255]], dtype=np.uint8)
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 200, 200, 90, 90, 90])
    palette.putpixel((1, 0), 1)
    content = {
        "RGBA": written(Image.fromarray(np.dstack([two, alpha])), "PNG"),
        "LA": written(Image.fromarray(np.dstack([two[..., 0], alpha]), "LA"), "PNG"),
        "P": written(palette, "PNG", transparency=0),
        "clear grey": written(Image.fromarray(two[..., 0]), "PNG", transparency=200),
        "clear colour": written(Image.fromarray(two), "PNG", transparency=(200, 200, 200)),
        "deep": png16(two[..., :1].astype(np.uint16) * 257, 0, struct.pack(">H", 200 * 257)),
        "deep colour": png16(two.astype(np.uint16) * 257, 2, struct.pack(">HHH", *(200 * 257,) * 3)),
        "GIF": written(palette, "GIF", transparency=0),
    }[kind]
    found = read_picture(content, "x", background=background)
    assert found[0].tolist() == [list(under), [90, 90, 90]]


def test_half_transparent_parts_are_mixed() -> None:
    pixels = np.array([[[0, 0, 0, 128]]], dtype=np.uint8)
    assert read_picture(written(Image.fromarray(pixels), "PNG"), "x")[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_inks_are_turned_into_light(form: str) -> None:
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # all magenta, all yellow: red
    found = read_picture(written(inks, form, **({"quality": 95} if form == "JPEG" else {})), "x")
    assert np.abs(found[4, 4].astype(int) - (255, 0, 0)).max() <= 3


def test_an_embedded_profile_is_followed() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = Image.fromarray(COLOURS)
    assert np.array_equal(read_picture(written(plain, "PNG", icc_profile=srgb), "x"), COLOURS)
    assert np.array_equal(read_picture(written(plain, "PNG", icc_profile=b"no profile"), "x"), COLOURS)
    lab = Image.new("LAB", (2, 2), (255, 128, 128))  # the lightest grey
    assert read_picture(written(lab, "TIFF"), "x").min() >= 250


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_read(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    lossless = {"lossless": True} if form == "WEBP" else {}
    content = written(frames[0], form, save_all=True, append_images=frames[1:], **lossless)
    assert np.abs(read_picture(content, "x")[0, 0].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("content", [b"", b"no image", written(Image.fromarray(COLOURS), "PNG")[:60]])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="x is no readable image"):
        read_picture(content, "x")
