import importlib.util
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from zoo.data import decode
from zoo.errors import DataError, ImageError

Photo = Callable[[int, int, int], Image.Image]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes, channels: int = 3) -> NDArray[np.int64]:
    return np.asarray(decode(content, channels=channels)).astype(np.int64)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(photo: Photo, kind: str) -> None:
    image = photo(0, 31, 17)
    np.testing.assert_array_equal(pixels(encoded(image, kind)), np.asarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "MPO"])
def test_lossy_formats_come_near(photo: Photo, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = photo(0, 64, 48)
    difference = np.abs(pixels(encoded(image, kind, quality=95)) - np.asarray(image))
    assert difference.mean() < 6


def test_a_file_and_its_content_give_the_same(photo: Photo, tmp_path: Path) -> None:
    file = tmp_path / "any.name"
    file.write_bytes(encoded(photo(0, 20, 10), "PNG"))
    assert decode(file).tobytes() == decode(file.read_bytes()).tobytes()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
@pytest.mark.parametrize("source", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_every_channel_count(channels: int, mode: str, source: str) -> None:
    image = Image.new("L", (5, 4), 128)
    if source == "I;16":
        image = Image.fromarray(np.full((4, 5), 128 * 257, dtype=np.uint16))
    elif source == "I":
        image = Image.fromarray(np.full((4, 5), 128 * 257, dtype=np.int32))
    else:
        image = image.convert("RGB").convert(source) if source in ("CMYK", "YCbCr") else image.convert(source)
    decoded = decode(encoded(image, "TIFF"), channels=channels)
    assert decoded.mode == mode
    assert decoded.size == (5, 4)
    expected = {0, 255} if source == "1" else {127, 128, 129}
    assert set(np.asarray(decoded.convert("L")).flat) <= expected
    with pytest.raises(ValueError, match="1, 3 or 4 channels, not 2"):
        decode(encoded(image, "TIFF"), channels=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    image = Image.fromarray(values)
    decoded = pixels(encoded(image, kind), channels=1)
    np.testing.assert_allclose(decoded, values / 257, atol=0.51)


def test_16_bit_colour_is_scaled() -> None:
    # Pillow cannot write 16-bit RGB, so this PNG is made by hand.
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 1000, 40000, 257)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    np.testing.assert_allclose(pixels(content)[0], [[0, 128, 255], [4, 156, 1]], atol=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]]), [0, 100, 255]),
        (np.array([[0.0, 257.0, 65535.0]]), [0, 1, 255]),
        (np.array([[-10.0, 0.0, 10.0]]), [0, 128, 255]),
        (np.array([[0.0, 5e5, 1e6]]), [0, 128, 255]),
        (np.array([[np.nan, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[7.0, 7.0, 7.0]]), [7, 7, 7]),
    ],
)
def test_floating_point_values_are_scaled_by_the_range_that_holds_them(
    values: NDArray[np.float64], expected: list[int]
) -> None:
    content = encoded(Image.fromarray(values.astype(np.float32)), "TIFF")
    np.testing.assert_array_equal(pixels(content, channels=1)[0], expected)


def test_large_whole_numbers_are_scaled_by_their_range() -> None:
    content = encoded(Image.fromarray(np.array([[-1000, 0, 1000]], dtype=np.int32)), "TIFF")
    np.testing.assert_array_equal(pixels(content, channels=1)[0], [0, 128, 255])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white_but_for_4_channels(mode: str) -> None:
    image = Image.new("RGBA", (3, 1), (100, 100, 100, 255))
    image.putpixel((1, 0), (100, 100, 100, 0))
    image.putpixel((2, 0), (100, 100, 100, 128))
    content = encoded(image.convert(mode), "PNG")
    assert pixels(content, channels=1)[0].tolist() == [100, 255, 177]
    assert pixels(content)[0].tolist() == [[100] * 3, [255] * 3, [177] * 3]
    assert pixels(content, channels=4)[0].tolist() == [[100, 100, 100, alpha] for alpha in (255, 0, 128)]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_lies_on_white(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, kind, transparency=1))[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_half_transparent_palette_entries_lie_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    content = encoded(image, "PNG", transparency=bytes([255, 128]))
    assert pixels(content)[0].tolist() == [[255, 0, 0], [127, 127, 255]]


def test_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (0, 200, 0))
    assert pixels(encoded(image, "PNG", transparency=(9, 9, 9)))[0].tolist() == [[255, 255, 255], [0, 200, 0]]


def test_cmyk_is_not_inverted(photo: Photo) -> None:
    image = photo(0, 40, 30)
    content = encoded(image.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels(content) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_orientations_stand_upright(photo: Photo, kind: str, orientation: int) -> None:
    image = photo(0, 24, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(BytesIO(content)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(pixels(content), expected)
    assert decode(content).size == ((16, 24) if orientation >= 5 else (24, 16))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"]
)
def test_damaged_exif_leaves_the_image_readable(photo: Photo, exif: bytes) -> None:
    content = encoded(photo(0, 24, 16), "JPEG", exif=exif)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode(content).size == (24, 16)
            warnings.simplefilter("error")
            assert decode(content).size == (24, 16)


def test_warnings_of_others_are_left_alone(photo: Photo) -> None:
    decode(encoded(photo(0, 8, 8), "PNG"))
    rules = len(warnings.filters)
    decode(encoded(photo(0, 8, 8), "PNG"))
    assert len(warnings.filters) == rules
    with pytest.raises(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(pixels(content)[0, 0] - [255, 0, 0]).max() <= 4


def test_a_large_jpeg_is_decoded_smaller_but_never_below_1_4_times_the_target(photo: Photo) -> None:
    content = encoded(photo(0, 800, 600), "JPEG")
    assert decode(content, target=53).size == (100, 75)
    assert decode(content, target=107).size == (200, 150)
    assert decode(content, target=108).size == (400, 300)
    assert decode(content, target=301).size == (800, 600)


def test_a_jpeg_is_only_shrunk_by_factors_that_divide_its_edges(photo: Photo) -> None:
    assert decode(encoded(photo(0, 804, 602), "JPEG"), target=10).size == (402, 301)
    assert decode(encoded(photo(0, 803, 602), "JPEG"), target=10).size == (803, 602)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated_images_are_refused_with_a_reason(photo: Photo, kind: str, cut: float) -> None:
    content = encoded(photo(0, 60, 50), kind)
    with pytest.raises(ImageError, match="is damaged or cut short"):
        decode(content[: int(len(content) * cut)])


@pytest.mark.parametrize("target", [None, 8])
def test_a_jpeg_without_its_last_kilobyte_is_refused(photo: Photo, target: int | None) -> None:
    content = encoded(photo(0, 200, 150), "JPEG")
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode(content[:-1000], target=target)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just some notes\n", "is text, not an image"),
        (b"<!DOCTYPE html><html>", "is a web page, not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an XML or SVG document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer.*git lfs pull"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript file"),
        (b"8BPS\0\1", "is a Photoshop file"),
        (b"SIMPLE  =                    T", "is a FITS file"),
        (b"\0\1\2\3\4\5", "is not an image of a known format"),
        (b"\xff\xd8\xff\xe0", "is damaged or cut short"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or cut short"),
        (b"GIF89a", "is damaged or cut short"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "is damaged or cut short|cannot be opened"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as raised:
        decode(content)
    assert isinstance(raised.value, DataError)


def test_a_postscript_file_renamed_jpg_is_never_interpreted(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(image, "EPS")
    with pytest.raises(ImageError, match="PostScript"):
        decode(image)


@pytest.mark.parametrize("kind", ["TGA", "PCX", "SGI", "ICO", "DDS", "JPEG2000"])
def test_formats_beside_the_list_stay_closed(kind: str) -> None:
    with pytest.raises(ImageError):
        decode(encoded(Image.new("RGB", (16, 16)), kind))


def test_a_heic_image_names_the_extra() -> None:
    if importlib.util.find_spec("pillow_heif"):
        pytest.skip("the extra is installed")
    with pytest.raises(ImageError, match=r"is a HEIC image; install torch-zoo\[heic\] to read it"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_a_heic_image_is_read_with_the_extra(photo: Photo) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = photo(0, 64, 48)
    buffer = BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95)
    assert np.abs(pixels(buffer.getvalue()) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize("size", [(20_000, 10_000), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=rf"has {size[0]} × {size[1]} pixels, more than the 178,956,970"):
        decode(content)


def test_the_pixel_limit_can_be_lowered(photo: Photo) -> None:
    with pytest.raises(ImageError, match="has 20 × 10 pixels, more than the 199"):
        decode(encoded(photo(0, 20, 10), "PNG"), pixel_limit=199)


def test_a_photo_of_100_megapixels_is_read_without_a_warning() -> None:
    content = encoded(Image.new("L", (10_000, 10_000), 7), "JPEG")
    decoded = decode(content, channels=1, target=64)
    assert decoded.size == (1250, 1250)


def test_a_text_bomb_in_a_png_is_refused() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    content += chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 24)))
    content += chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode(content)


def test_a_file_that_cannot_be_opened_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        decode(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="cannot be opened: Is a directory"):
        decode(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "disk.jpg"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(ImageError, match="bytes, more than the 536,870,912 that zoo reads"):
        decode(file)


def test_threads_decode_alike(photo: Photo) -> None:
    contents = [encoded(photo(seed, 60, 40), kind) for seed in range(3) for kind in ("PNG", "JPEG", "GIF", "WEBP")]
    expected = [decode(content).tobytes() for content in contents]
    found: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: found.append([decode(c).tobytes() for c in contents])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_damaged_bytes_never_raise_anything_else(photo: Photo) -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        content = encoded(photo(0, 40, 30), kind)
        for _ in range(40):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 5):
                damaged[place] = random.integers(0, 256)
            with suppress(ImageError):
                decode(bytes(damaged), pixel_limit=1 << 20)


def test_phone_photos_stand_upright(shared_data: Path) -> None:
    large = [path for path in (shared_data / "sign-digits").rglob("*.JPG") if path.stat().st_size > 300_000]
    assert len(large) == 3
    with Image.open(large[0]) as stored:
        assert stored.getexif()[0x0112] != 1
        expected = ImageOps.exif_transpose(stored)
    assert decode(large[0]).tobytes() == expected.tobytes()
