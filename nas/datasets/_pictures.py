"""Reading one image file as a viewer shows it.

Upright (the note on orientation is followed), every bit depth scaled to 0 to 255, colours in sRGB (a palette, CMYK, Lab
and an embedded colour profile are converted), and what is transparent laid over a background, so that colours which
nobody sees never come out. Of an animation, or a file of several pages, the first.
"""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from searchspaces import DataError

if TYPE_CHECKING:
    from PIL import Image

Mode = Literal["rgb", "grey"]
Pixels = npt.NDArray[np.uint8]

_LOG = logging.getLogger("nas.datasets")
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 256, 257, 258, 262, 0
_UNREADABLE = (OSError, ValueError, SyntaxError, IndexError, KeyError, TypeError, OverflowError, struct.error)
# What Pillow's readers raise on a broken file; a note that is broken alone raises the same, and is passed over.


def read_picture(
    source: Path | bytes,
    what: str,
    *,
    mode: Mode = "rgb",
    background: str = "white",
    size: int | None = None,
) -> Pixels:
    """`height x width x channels`, channels 3 or 1, 0 to 255.

    Args:
        source: the file, or its content.
        what: what the message calls it.
        background: a colour name or #rrggbb, which shows through where the image is transparent.
        size: crop to a square around the centre and resize to so many pixels a side; None: as it is.

    Raises:
        DataError: it is no readable image, or nobody can say which of its values is white.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as opened:
            image = _shown(opened, background)
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{what} {error}") from error
        raise DataError(f"{what} is no readable image ({error}); replace or remove it.") from error
    image = image.convert("RGB" if mode == "rgb" else "L")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height as shown, from the file's header alone.

    Raises:
        DataError: it is no readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            (width, height), orientation = image.size, _orientation(image)
            if image.format == "TIFF":  # Pillow turns these itself, some versions of it when it opens them
                tags = dict(getattr(image, "tag_v2", {}))
                width, height, orientation = tags[_WIDTH], tags[_HEIGHT], tags.get(_ORIENTATION)
            is_turned = orientation in _TURNED
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image ({error}); replace or remove it.") from error
    return (height, width) if is_turned else (width, height)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except _UNREADABLE:
        return None


def _shown(opened: Image.Image, background: str) -> Image.Image:
    """Mode L or RGB: upright, 8 bits, sRGB, opaque."""
    from PIL import ImageOps

    raw_mode = str(getattr(opened, "tile", ""))
    opened.load()
    is_known = _orientation(opened) is not None
    image = ImageOps.exif_transpose(opened) if is_known else opened
    is_deep = ";16" in raw_mode and image.mode in ("L", "RGB")
    if image.mode.startswith(("I", "F")):
        return _scaled(opened, image, background)
    if image.mode in ("LAB", "CMYK", "YCbCr"):
        return _in_srgb(image)
    if not image.has_transparency_data:
        return _in_srgb(image.convert("RGB" if image.mode == "P" else "L") if image.mode in ("1", "P") else image)
    hidden = image.info.get("transparency")
    if is_deep and hidden is not None:  # Pillow keeps the high byte of the pixels, but all of the colour that is clear
        levels = tuple(level >> 8 for level in (hidden if isinstance(hidden, tuple) else (hidden,)))
        image.info["transparency"] = levels if isinstance(hidden, tuple) else levels[0]
    layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return _over(_in_srgb(layered.convert("RGB"), layered), layered.getchannel("A"), background)


def _over(image: Image.Image, alpha: Image.Image, background: str) -> Image.Image:
    from PIL import Image as Images

    under = Images.new("RGB", image.size, background)
    under.paste(image.convert("RGB"), mask=alpha)
    return under


def _scaled(opened: Image.Image, image: Image.Image, background: str) -> Image.Image:
    """One channel of more than 8 bits, scaled from black and white as the file defines them.

    Raises:
        DataError: the file does not say which value is white.
    """
    from PIL import Image as Images

    values, tags = np.asarray(image), dict(getattr(opened, "tag_v2", {}))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    bits = max(tags.get(_BITS, (16,)))
    white = 1.0 if image.mode == "F" else float(2**bits - 1)
    if not (bits <= 16 or image.mode == "F") or not 0 <= low <= high <= white:
        raise DataError(
            f"has values from {low:g} to {high:g} in {bits} bits, and nobody says which is white; save it with 8 or 16 "
            "bits a channel, or as numbers from 0 to 1."
        )
    levels = np.round(values.astype(np.float64) * (255 / white)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = 255 - levels
    clear = image.info.get("transparency")
    found = Images.fromarray(levels)
    if clear is None:
        return found
    return _over(found, Images.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)), background)


def _in_srgb(image: Image.Image, original: Image.Image | None = None) -> Image.Image:
    """The colours of an opaque image in sRGB, from its embedded profile where it has one that can be read."""
    from PIL import ImageCms

    profile = (original or image).info.get("icc_profile")
    if profile or image.mode == "LAB":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            if not (profile and "srgb" in ImageCms.getProfileDescription(source).lower()):
                target = ImageCms.createProfile("sRGB")
                found = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                image = found if found is not None else image
        except (ImportError, ImageCms.PyCMSError, OSError):
            _LOG.debug("a colour profile that cannot be read is passed over")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
