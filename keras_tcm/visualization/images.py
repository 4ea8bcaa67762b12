"""Images of samples, given as pixels or as paths of files."""

import os
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.data.augmentation import to_numpy
from keras_tcm.data.images import read_image

if TYPE_CHECKING:
    import matplotlib.axes

# Longest side of an image read from a file, in pixels: as large as it will be drawn.
_SIDE = 160


def check_images(images: Any, size: int | None = None) -> np.ndarray:
    """Return images as an array of pixels or of paths, one for each sample.

    Args:
        images: Array or tensor `(n, height, width, 1 or 3)`, or paths of `n` files.
        size: Number of samples expected. Defaults to any.

    Raises:
        ValueError: If they are anything else.
    """
    try:
        array = to_numpy(images)
        found = f"dtype {array.dtype} and shape {array.shape}"
    except ValueError as error:  # Images of several sizes make no array.
        array, found = np.empty(()), str(error)
    is_pixels = array.ndim == 4 and array.shape[-1] in (1, 3)
    is_pixels = is_pixels and array.dtype.kind in "fiu"
    is_paths = array.ndim == 1 and all(isinstance(x, str | os.PathLike) for x in array)
    if not (is_pixels or is_paths) or not array.size:
        raise ValueError(
            "`images` must have shape (n, height, width, 1 or 3), or be paths of "
            f"files. Received: images of {found}"
        )
    if size is not None and len(array) != size:
        raise ValueError(
            f"`images` must have one image per sample, {size}. "
            f"Received: {len(array)} images"
        )
    return array


def samples_of(
    classes: Sequence[Hashable], labels: list[Hashable] | np.ndarray, most: int
) -> list[list[int]]:
    """Find the images of some classes.

    Args:
        classes: Labels as an evaluation has them.
        labels: Label of each image.
        most: How many to find of a class, at most.

    Returns:
        The indices of the first images of each class.

    Raises:
        ValueError: If a class has no image.
    """
    found: dict[Hashable, list[int]] = {label: [] for label in classes}
    known = labels.tolist() if isinstance(labels, np.ndarray) else labels
    for sample, label in enumerate(known):
        # What `Evaluation.save` makes of other labels.
        is_kept = label in found or isinstance(label, bool | int | float | str)
        row = found.get(label if is_kept else repr(label))
        if row is not None and len(row) < most:
            row.append(sample)
    for label, row in found.items():
        if not row:
            raise ValueError(
                "`labels` must contain the classes of the evaluation that are shown. "
                f"Received: labels without {label!r}"
            )
    return list(found.values())


def pick_images(images: np.ndarray, samples: Iterable[int]) -> dict[int, np.ndarray]:
    """Return the images of some samples.

    Args:
        images: All images, from `check_images`.
        samples: Their indices.

    Returns:
        RGB pixels by index: uint8 of shape `(height, width, 3)`, where files are
        scaled down to 160 pixels.

    Raises:
        ValueError: If a file cannot be read, or pixels are not in [0, 255].
    """
    if images.ndim == 1:
        return {index: _read_image(images[index]) for index in samples}
    chosen = {index: images[index] for index in samples}
    highest = max(image.max() for image in chosen.values())
    lowest = min(image.min() for image in chosen.values())
    # Scaled images would be black squares.
    is_scaled = images.dtype.kind == "f" and highest <= 1
    if is_scaled or not 0 <= lowest <= highest <= 255:
        raise ValueError(
            "`images` must have values in [0, 255]. "
            f"Received: {images.dtype} values from {lowest:g} to {highest:g}"
        )
    return {
        index: np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)
        for index, image in chosen.items()
    }


def show_image(ax: "matplotlib.axes.Axes", image: np.ndarray, alpha: float = 1) -> None:
    """Draw an image, without ticks and borders."""
    ax.imshow(image, alpha=alpha)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def short_name(name: Any, longest: int) -> str:
    """Text of a name, with no more than so many characters."""
    text = str(name)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _read_image(path: str | os.PathLike[str]) -> np.ndarray:
    # Unlike `data.images.read_images`, which makes batches, it keeps the proportions.
    image = read_image("images", path)
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image)
