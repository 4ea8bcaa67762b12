"""One function that returns any of the data sets by name."""

import os

import numpy as np

from keras_tcm.datasets import digits, glyphs
from keras_tcm.validation import check_choice

Split = tuple[np.ndarray, np.ndarray]

_LOADERS = {"digits": digits.load, "glyphs": glyphs.load}


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Returns a data set whose test classes do not occur in training.

    Args:
        name: `"glyphs"` (28 x 28 characters, hundreds of classes, drawn on first
            use) or `"digits"` (8 x 8 handwritten digits, ten classes).
        data_dir: Folder for what is generated. Defaults to `keras_tcm` in
            `$KERAS_HOME`, or in `~/.keras` where that is not set.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. Images are uint8 of shape
        `(N, height, width, 1)`, 0 to 255. Labels are int64 of shape `(N,)`: the
        train classes are `0 ... C - 1`, the test classes go on from `C`.

    Raises:
        ValueError: If `name` is not one of the above.
        ImportError: If the package that the data come from is not installed.

    Example:

    >>> from keras_tcm.datasets import load
    >>> (x_train, y_train), (x_test, y_test) = load("digits")
    >>> x_train.shape, int(y_train.max()), int(y_test.min())
    ((901, 8, 8, 1), 4, 5)
    """
    check_choice("name", name, _LOADERS)
    return _LOADERS[name](data_dir)
