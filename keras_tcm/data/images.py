"""Reading images from files."""

import contextlib
import os
from collections.abc import Iterable, Iterator

import keras
import numpy as np


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
            f"Received: {os.fspath(path)!r} ({type(error).__name__}: {error})"
        ) from error


def _read_image(
    path: str | os.PathLike[str], image_size: tuple[int, int]
) -> np.ndarray:
    with naming_file("x", path):
        image = keras.utils.load_img(
            os.fspath(path), target_size=image_size, interpolation="bilinear"
        )
        return keras.utils.img_to_array(image)


def read_images(
    paths: Iterable[str | os.PathLike[str]], image_size: tuple[int, int]
) -> np.ndarray:
    """Read images as RGB and resize them.

    Args:
        paths: Paths of N images in a format that Pillow reads.
        image_size: `(height, width)` of the result.

    Returns:
        Array `(N, height, width, 3)`, or `(N, 3, height, width)` where
        `keras.config.image_data_format()` is `"channels_first"`, in [0, 255].

    Raises:
        ValueError: If a file is missing or damaged; the message names it.
    """
    return np.stack([_read_image(path, image_size) for path in paths])
