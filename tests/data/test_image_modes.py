"""Whatever Pillow opens comes out as it is seen, in [0, 255], or is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_tcm.data import ClassBalancedSampler, ImageBatches
from keras_tcm.data.images import read_image

# A ramp over the whole range, and what is left of it in 8 bits
DEEP = np.tile(np.linspace(0, 65535, 16).astype("uint16"), (4, 1))
RAMP = DEEP / 257
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 16, 3), "uint8")
SHAPE = (4, 16)


def pixels(path, image_size=SHAPE):
    (batch,) = ImageBatches([path], image_size)
    return batch[0]


def assert_grey(found, expected, atol=0.5):
    assert found.shape == (*SHAPE, 3)
    np.testing.assert_allclose(found, np.stack([expected] * 3, -1), atol=atol)


def png16(colour_type, samples):
    """A PNG of 16 bits a channel, which Pillow writes for grey only."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(samples, bits, *, photometric=1, sample_format=1, order="<"):
    """An uncompressed grey TIFF of one strip."""
    height, width = samples.shape
    if bits == 12:
        text = "".join(f"{value:012b}" for value in samples.ravel())
        data = int(text, 2).to_bytes(len(text) // 8, "big")
    else:
        kind = {1: "u", 2: "i", 3: "f"}[sample_format]
        data = samples.astype(f"{order}{kind}{bits // 8}").tobytes()
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8 + 2 + 10 * 12 + 4),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    mark = {"<": b"II", ">": b"MM"}[order]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        field = struct.pack(
            f"{order}HH" if kind == 3 else f"{order}I",
            *[value, 0][: 2 if kind == 3 else 1],
        )
        directory += struct.pack(f"{order}HHI", tag, kind, 1) + field
    return mark + struct.pack(f"{order}HI", 42, 8) + directory + bytes(4) + data


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2"])
def test_grey_of_16_bits(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"a.{suffix}")
    assert_grey(pixels(tmp_path / f"a.{suffix}"), RAMP, atol=1)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_png_of_16_bits(tmp_path, colour_type, channels):
    samples = np.stack([DEEP] * channels, -1)
    (tmp_path / "a.png").write_bytes(png16(colour_type, samples))
    assert_grey(pixels(tmp_path / "a.png"), RAMP, atol=1)


@pytest.mark.parametrize("highest", [65535, 1023])
def test_pgm_says_what_white_is(tmp_path, highest):
    values = (RAMP / 255 * highest).round().astype(">u2")
    header = f"P5 16 4 {highest}\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + values.tobytes())
    assert_grey(pixels(tmp_path / "a.pgm"), RAMP)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_in_both_byte_orders(tmp_path, order):
    (tmp_path / "a.tif").write_bytes(tiff(DEEP, 16, order=order))
    assert_grey(pixels(tmp_path / "a.tif"), RAMP)


def test_tiff_of_12_bits(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(DEEP >> 4, 12))
    assert_grey(pixels(tmp_path / "a.tif"), RAMP, atol=0.6)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_in_which_zero_is_white(tmp_path, bits):
    (tmp_path / "a.tif").write_bytes(tiff(DEEP >> (16 - bits), bits, photometric=0))
    assert_grey(pixels(tmp_path / "a.tif"), 255 - RAMP, atol=1)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (tiff(RAMP, 32, sample_format=3), "F"),
        (tiff(RAMP / 255, 32, sample_format=3), "F"),
        (tiff(DEEP, 32), "I"),
        (tiff(DEEP, 32, sample_format=2), "I"),
        (tiff(DEEP // 2 - 16000.0, 16, sample_format=2), "I"),
        (tiff(DEEP // 2, 16, sample_format=2), "I"),
        (tiff(RAMP // 2, 8, sample_format=2), "L"),
    ],
    ids=["float", "float-unit", "uint32", "int32", "int16", "int16-positive", "int8"],
)
@pytest.mark.parametrize("image_size", [SHAPE, (2, 2)])
def test_values_without_a_fixed_range_are_refused(tmp_path, content, mode, image_size):
    path = tmp_path / "strange.tif"
    path.write_bytes(content)
    with Image.open(path) as image:
        assert image.mode == mode
    message = r"strange\.tif.*scale them to \[0, 255\] and save them with 8 bits"
    with pytest.raises(ValueError, match=message):
        pixels(path, image_size)
    sampler = ClassBalancedSampler([path] * 4, [0, 0, 1, 1], 2, 2, image_size=(2, 2))
    with pytest.raises(ValueError, match=message):
        sampler[0]


@pytest.mark.parametrize("lightness", [0, 51, 128, 255])
def test_lab(tmp_path, lightness):
    """Grey: by CIE, Y = ((L + 16) / 116)^3, and sRGB's curve of that."""
    bands = [Image.new("L", (16, 4), value) for value in (lightness, 128, 128)]
    Image.merge("LAB", bands).save(tmp_path / "a.tif")
    root = (lightness / 255 * 100 + 16) / 116
    luminance = root**3 if root > 6 / 29 else 3 * (6 / 29) ** 2 * (root - 4 / 29)
    linear = luminance <= 0.0031308
    grey = 12.92 * luminance if linear else 1.055 * luminance ** (1 / 2.4) - 0.055
    assert_grey(pixels(tmp_path / "a.tif"), np.full(SHAPE, 255 * grey), atol=2)


def test_what_does_not_convert_is_refused(tmp_path, monkeypatch):
    """As LAB, where Pillow was built without LittleCMS."""

    def convert(image, mode):
        raise ValueError("conversion from LAB to RGB not supported")

    Image.fromarray(COLOURS).save(tmp_path / "lab.tif")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ValueError, match=r"lab\.tif.*save it as an RGB image"):
        pixels(tmp_path / "lab.tif")


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr"])
def test_colours(tmp_path, mode):
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a.tif")
    # Of YCbCr, rounding loses up to three.
    np.testing.assert_allclose(pixels(tmp_path / "a.tif"), COLOURS, atol=3)


def test_black_and_white(tmp_path):
    Image.fromarray(RAMP > 128).save(tmp_path / "a.png")
    assert_grey(pixels(tmp_path / "a.png"), 255 * (RAMP > 128))


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette(tmp_path, suffix):
    image = Image.fromarray((np.arange(64) % 4).reshape(SHAPE).astype("uint8"), "P")
    palette = np.array([[9, 8, 7], [250, 0, 0], [0, 200, 0], [1, 2, 255]], "uint8")
    image.putpalette(palette.tobytes())
    image.save(tmp_path / f"a.{suffix}")
    expected = palette[(np.arange(64) % 4).reshape(SHAPE)]
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), expected)


ALPHA = np.tile(np.array([0, 64, 128, 255], "uint8"), (4, 4))
# Worked by hand: what is seen of a colour on white.
SEEN = COLOURS * (ALPHA / 255)[..., None] + 255 * (1 - ALPHA / 255)[..., None]


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparent_colours_are_on_white(tmp_path, suffix):
    image = Image.fromarray(np.dstack([COLOURS, ALPHA]), "RGBA")
    image.save(
        tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {})
    )
    np.testing.assert_allclose(pixels(tmp_path / f"a.{suffix}"), SEEN, atol=1)


@pytest.mark.parametrize("mode", ["LA", "PA"])
def test_other_modes_with_alpha(tmp_path, mode):
    grey = np.dstack([COLOURS[..., 0]] * 3)
    image = Image.fromarray(np.dstack([grey, ALPHA]), "RGBA").convert("LA")
    if mode == "PA":
        image = Image.merge("PA", image.split())
        image.putpalette(np.repeat(np.arange(256, dtype="uint8"), 3).tobytes())
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as saved:
        assert saved.mode == mode
    expected = grey * (ALPHA / 255)[..., None] + 255 * (1 - ALPHA / 255)[..., None]
    np.testing.assert_allclose(pixels(tmp_path / "a.tif"), expected, atol=1)


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_colours_multiplied_by_their_alpha(tmp_path, mode, monkeypatch):
    """No format of Pillow's saves them, some are opened as such."""
    source = Image.fromarray(np.dstack([COLOURS, ALPHA]), "RGBA")
    expected = SEEN
    if mode == "La":
        grey = COLOURS.copy()
        grey[:] = COLOURS[..., :1]
        source = Image.fromarray(np.dstack([grey, ALPHA]), "RGBA").convert("LA")
        expected = grey * (ALPHA / 255)[..., None] + 255 * (1 - ALPHA / 255)[..., None]
    monkeypatch.setattr(Image, "open", lambda file: source.convert(mode))
    (tmp_path / "a.tif").touch()
    np.testing.assert_allclose(pixels(tmp_path / "a.tif"), expected, atol=2)


@pytest.mark.parametrize("kind", ["palette", "grey", "colour", "deep"])
def test_one_transparent_value_is_white(tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "palette":
        values = (np.arange(64) % 4).reshape(SHAPE).astype("uint8")
        image = Image.fromarray(values, "P")
        image.putpalette(bytes([0, 0, 0, 10, 10, 10, 20, 20, 20, 30, 30, 30]))
        image.save(path, transparency=2)
        expected = np.where(values == 2, 255, 10.0 * values)
    elif kind == "deep":
        Image.fromarray(DEEP).save(path, transparency=int(DEEP[0, 3]))
        expected = np.where(DEEP[0, 3] == DEEP, 255, RAMP)
    else:
        values = RAMP.astype("uint8")
        image = Image.fromarray(values)
        at = int(values[0, 3])
        if kind == "colour":
            image.convert("RGB").save(path, transparency=(at, at, at))
        else:
            image.save(path, transparency=at)
        expected = np.where(values == at, 255, values)
    with Image.open(path) as saved:
        assert "transparency" in saved.info
    assert_grey(pixels(path), expected)


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_of_several_frames_the_first(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 4), (value,) * 3) for value in (200, 100, 0)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options
    )
    with Image.open(tmp_path / f"a.{suffix}") as saved:
        assert saved.n_frames == 3
    assert_grey(pixels(tmp_path / f"a.{suffix}"), np.full(SHAPE, 200))


# What has to be done to the stored pixels to see them upright, by the EXIF standard.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "deep png", "deep tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_upright(tmp_path, kind, orientation):
    suffix = kind.split()[-1]
    stored = np.zeros((32, 48), "uint16" if "deep" in kind else "uint8")
    stored[:16, :16] = np.iinfo(stored.dtype).max
    stored[16:, :16] = np.iinfo(stored.dtype).max // 2
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    expected = UPRIGHT[orientation](stored / np.iinfo(stored.dtype).max * 255)
    found = pixels(tmp_path / f"a.{suffix}", expected.shape)
    np.testing.assert_allclose(found[..., 0], expected, atol=3)
    assert read_image("x", tmp_path / f"a.{suffix}").size == expected.shape[::-1]


def test_figures_read_them_alike(tmp_path):
    from keras_tcm.visualization.images import check_images, pick_images

    Image.fromarray(DEEP).save(tmp_path / "deep.png")
    images = check_images([tmp_path / "deep.png"])
    assert_grey(pick_images(images, [0])[0], RAMP)
    (tmp_path / "float.tif").write_bytes(tiff(RAMP, 32, sample_format=3))
    with pytest.raises(ValueError, match=r"`images` must hold .*float\.tif.*8 bits"):
        pick_images(check_images([tmp_path / "float.tif"]), [0])
