"""Reading images from files."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

if TYPE_CHECKING:
    import PIL.Image

# The formats whose grey goes up to 65535 in a mode of Pillow's: in other formats `I`
# is any integer of 16 or 32 bits.
_FULL_RANGE = {"I;": ("JPEG2000", "PNG", "PPM", "TIFF"), "I": ("PNG", "PPM")}
# Tags of TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_SAMPLE_FORMAT, _SIGNED = 339, 2


@contextlib.contextmanager
def naming_file(argument: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Let whatever goes wrong while an image is read be an error that names its file.

    Args:
        argument: Name of the argument that holds the path.
        path: The file.

    Raises:
        ValueError: In place of what the block raises.
    """
    try:
        yield
    except ImportError:  # Pillow is missing, which is not the fault of the file.
        raise
    except Exception as error:  # Damaged files fail in many ways.
        raise ValueError(
            f"`{argument}` must hold paths of images that can be read. "
            f"Received: {str(os.fspath(path))!r} ({type(error).__name__}: {error})"
        ) from error


def read_image(
    argument: str,
    path: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
) -> "PIL.Image.Image":
    """Read an image as RGB in [0, 255], the way a viewer shows it.

    It is turned as its EXIF data say, transparent parts are on white, grey of 16 bits
    is scaled, and of several frames it is the first.

    Args:
        argument: Name of the argument that holds the path, for the message.
        path: A file in a format that Pillow reads.
        image_size: `(height, width)` to which it is resized. Defaults to its own.

    Raises:
        ValueError: If the file is missing or damaged, or does not tell which of its
            values is white; the message names it.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("Reading images needs Pillow: pip install pillow") from error
    # Given a path, Pillow maps it, and scrambles a TIFF that lies on its side.
    with naming_file(argument, path), open(path, "rb") as file:
        opened = Image.open(file)
        opened.load()  # Which turns a TIFF: it must not be turned twice.
        image = _to_rgb(ImageOps.exif_transpose(_to_eight_bits(opened)))
        if image_size is None:
            return image
        height, width = image_size
        return image.resize((width, height), Image.Resampling.BILINEAR)


def _to_eight_bits(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Scale grey of more than 8 bits to [0, 255]."""
    from PIL import Image

    tags = getattr(image, "tag_v2", {})
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;")
    is_signed = _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if not is_deep and not is_signed:
        return image
    if is_signed or image.format not in _FULL_RANGE.get(image.mode[:2], ()):
        raise ValueError(
            f"its values, of Pillow's mode {image.mode}{' and signed' * is_signed}, "
            "have no fixed range: scale them to [0, 255] and save them with 8 bits"
        )
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]  # Pillow says `I;16` for 12, too.
    grey = np.asarray(image).astype(np.float64)
    transparent = grey == image.info.get("transparency", -1)
    grey *= 255 / (2**bits - 1)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    grey[transparent] = 255
    scaled = Image.fromarray(grey.round().astype(np.uint8))
    scaled.info["exif"] = image.getexif().tobytes()
    return scaled


def _to_rgb(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Convert to RGB, on white where the image is transparent."""
    from PIL import Image

    if image.mode in ("La", "RGBa"):  # Colours that are multiplied by their alpha.
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{error}: save it as an RGB image") from error


def read_images(
    paths: Iterable[str | os.PathLike[str]], image_size: tuple[int, int]
) -> np.ndarray:
    """Read images, see `read_image`, and resize them.

    Args:
        paths: Paths of N images.
        image_size: `(height, width)` of the result.

    Returns:
        Array `(N, height, width, 3)`, or `(N, 3, height, width)` where
        `keras.config.image_data_format()` is `"channels_first"`, in [0, 255].

    Raises:
        ValueError: If a file cannot be read; the message names it.
    """
    return np.stack(
        [keras.utils.img_to_array(read_image("x", path, image_size)) for path in paths]
    )
