"""One function that returns any of the data sets by name."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_tcm.datasets import (
    cars196,
    codes,
    cub200,
    digits,
    emoji,
    glyphs,
    icons,
    inaturalist2018,
    long_tail,
    scenes,
    sop,
    symbols,
)
from keras_tcm.validation import check_choice

# Images and labels; or, of scenes, captions together with images, and labels.
Split = tuple[Any, np.ndarray]

# Each takes `data_dir`, which may be `None`.
_LOADERS: dict[str, Callable[..., tuple[Split, Split]]] = {
    # Images in memory
    "codes": codes.load,
    "digits": digits.load,
    "glyphs": glyphs.load,
    "long_tail": long_tail.load,
    "symbols": symbols.load,
    # Captions and images in memory
    "scenes": scenes.load,
    # Images in memory, drawn from packages that npm installed
    "emoji": emoji.load,
    "icons": icons.load,
    # Paths of images
    "cars196": cars196.load,
    "cub200": cub200.load,
    "inaturalist2018": inaturalist2018.load,
    "sop": sop.load,
}


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Returns a data set whose test classes do not occur in training.

    Args:
        name: `"glyphs"`, `"symbols"`, `"long_tail"` or `"codes"` (28 x 28 characters
            of hundreds of classes, drawn on first use), `"digits"` (8 x 8
            handwritten digits, ten classes) or `"scenes"` (captions and 32 x 32
            pictures in colour, hundreds of classes, made on first use), which come
            with the package; `"emoji"` (32 x 32, in colour) or `"icons"` (32 x 32),
            over a thousand classes each, drawn on first use from packages that npm
            installs; `"cub200"`, `"cars196"`, `"sop"` or `"inaturalist2018"`, which
            are read where you unpacked them.
        data_dir: For those that come with the package, the folder for what is
            generated: defaults to `keras_tcm` in `$KERAS_HOME`, or in `~/.keras`
            where that is not set. For the others, and required, the folder of the
            data set, or one that holds it under its original name or `name`; for
            those from npm that is `node_modules`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. Images are uint8 of shape
        `(N, height, width, channels)`, 0 to 255, or paths of their files, strings of
        shape `(N,)`, which `data.ClassBalancedSampler` and `data.ImageBatches` read.
        Labels are int64 of shape `(N,)`: the train classes are `0 ... C - 1`, the
        test classes go on from `C`. Each `x` of the scenes is a pair of arrays,
        `(tokens, images)`: see `datasets.scenes.load`.

    Raises:
        ValueError: If `name` is not one of the above, `data_dir` is missing, or what
            it holds is damaged or not the whole data set.
        FileNotFoundError: If `data_dir` does not hold the data set, or not all of its
            images. The message says what it must look like and where it comes from.
        ImportError: If matplotlib is not installed, for characters that are drawn, or
            resvg-py or Pillow is not, for data from npm.

    Example:

    >>> from keras_tcm.datasets import load
    >>> (x_train, y_train), (x_test, y_test) = load("digits")
    >>> x_train.shape, int(y_train.max()), int(y_test.min())
    ((901, 8, 8, 1), 4, 5)
    """
    check_choice("name", name, _LOADERS)
    return _LOADERS[name](data_dir)
