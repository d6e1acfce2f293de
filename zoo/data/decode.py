"""The one function that turns the bytes of an image file into pixels, for training, evaluation and prediction alike."""

import os
import re
import warnings
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from zoo.errors import ImageError

PIXEL_LIMIT = 178_956_970
"""Most pixels an image may have: the size that Pillow itself refuses as a decompression bomb."""

FILE_LIMIT_BYTES = 1 << 29
"""Largest image file that is read."""

# JPEG opens MPO too. Every other format that Pillow knows (EPS runs Ghostscript, PSD, FITS, ...) stays closed.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "HEIF")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHER_CONTENT = (
    (b"version https://git-lfs", "is a Git LFS pointer and not the image; run 'git lfs pull'"),
    (b"%PDF", "is a PDF document, which zoo does not open"),
    (b"%!PS", "is a PostScript file, which zoo does not open"),
    (b"8BPS", "is a Photoshop file, which zoo does not open"),
    (b"SIMPLE  =", "is a FITS file, which zoo does not open"),
    (b"\x00\x00\x00\x0cjP  ", "is a JPEG 2000 file, which zoo does not open"),
    (b"PK\x03\x04", "is a ZIP archive, not an image"),
)
# A JPEG decoded smaller than this, in times of what it is shrunk to, aliases: pixels of photos then differ by 1.2 to
# 4.5 of 255 on average from those of a full decode; from here on by 0.4 to 1.2.
_SMALLEST_DECODED = 1.4
_PILLOW_RULE = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    source: Path | bytes, *, channels: int = 3, target: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> Image.Image:
    """Decode an image upright, at 8 bits a channel.

    Only JPEG (and MPO), PNG, GIF, BMP, WebP, TIFF, PPM, AVIF and, with the extra ``heic``, HEIF are opened, whatever
    the file is called. The first frame of an animation counts. The EXIF orientation, mirrored ones included, is
    applied. 16-bit values are scaled, never clipped; 32-bit and floating-point values are scaled by 255, 65535 or
    their own range, the first of these that holds them all. Transparent parts lie on white for 1 and 3 channels.

    Args:
        source: A file, or its content.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.
        target: Shorter edge in pixels that the caller will shrink the image to. A large JPEG is then decoded at 1/2,
            1/4 or 1/8 of its size, but never below 1.4 times the target, which is several times faster. Its edges must
            be multiples of that factor, as a camera's are.
        pixel_limit: Most pixels that the file may declare.

    Returns:
        An image of mode ``L``, ``RGB`` or ``RGBA``.

    Raises:
        ImageError: The image cannot be read; the message is a reason that fits behind the file's name.
    """
    if channels not in (1, 3, 4):
        raise ValueError(f"images have 1, 3 or 4 channels, not {channels}")
    content = source if isinstance(source, bytes) else read_image_file(source)
    _hush_pillow()
    try:
        image = _open(content)
        width, height = image.size
        if width * height > pixel_limit:
            raise ImageError(f"has {width} × {height} pixels, more than the {pixel_limit:,} that zoo decodes")
        if target is not None:
            _decode_smaller(image, ceil(_SMALLEST_DECODED * target))
        image.load()
        return _to_channels(_upright(image), channels)
    except ImageError:
        raise
    except Exception as error:  # on a damaged file Pillow's readers raise nearly anything: SyntaxError, KeyError, ...
        raise ImageError(f"is damaged or cut short ({_one_line(error)})") from error


def read_image_file(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        ImageError: It cannot be opened, is empty or is far too large to be an image.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_LIMIT_BYTES:
                raise ImageError(f"has {size:,} bytes, more than the {FILE_LIMIT_BYTES:,} that zoo reads")
            # What is not a plain file may say 0. The limit itself would take that much memory for each small file.
            return file.read(size or FILE_LIMIT_BYTES)
    except OSError as error:
        raise ImageError(f"cannot be opened: {error.strerror or error}") from error


def _open(content: bytes) -> ImageFile.ImageFile:
    # Image.open is not used: it warns of large images through the process-wide warning filters, before their size can
    # be looked at.
    if not content:
        raise ImageError("is empty (0 bytes)")
    _register_heif(content)
    Image.init()
    prefix = content[:16]
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        verdict = accept(prefix) if accept else True
        if isinstance(verdict, str):
            raise ImageError(f"cannot be opened here: {verdict}")
        if verdict:
            image: ImageFile.ImageFile = factory(BytesIO(content), "")
            return image
    raise ImageError(_why_not(content))


def _decode_smaller(image: ImageFile.ImageFile, shorter_edge: int) -> None:
    # Only by a factor that divides both edges: else the last pixels stand for a part of one, and all are shifted.
    width, height = image.size
    for factor in (8, 4, 2):
        if width % factor == height % factor == 0 and min(width, height) // factor >= shorter_edge:
            image.draft(None, (width // factor, height // factor))
            return


def _register_heif(content: bytes) -> None:
    if content[4:8] != b"ftyp" or content[8:12] not in _HEIF_BRANDS or "HEIF" in Image.OPEN:
        return
    if content[8:12] in (b"mif1", b"msf1") and b"avif" in content[12:64]:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError("is a HEIC image; install torch-zoo[heic] to read it") from error
    pillow_heif.register_heif_opener()


def _why_not(content: bytes) -> str:
    for magic, reason in _OTHER_CONTENT:
        if content.startswith(magic):
            return reason
    start = content[:256]
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image"
    if start.lstrip().startswith((b"<svg", b"<?xml")):
        return "is an XML or SVG document, which zoo does not open"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "is text, not an image"
    return "is not an image of a known format"


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data say nothing about the pixels
        return image
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    image = _to_8_bits(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    see_through = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if channels == 4:
        return image.convert("RGBA")
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
    if see_through:
        image = image.convert("RGBA")
        on_white = Image.new("RGB", image.size, (255, 255, 255))
        on_white.paste(image, mask=image.getchannel("A"))
        image = on_white
    return image if image.mode == mode else image.convert(mode)


def _to_8_bits(image: Image.Image) -> Image.Image:
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-300))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _hush_pillow() -> None:
    # Pillow warns of oddities in metadata that do not touch the pixels. warnings.catch_warnings is not safe in threads,
    # so one rule for its modules is put in front and stays.
    if warnings.filters[:1] != [_PILLOW_RULE]:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
