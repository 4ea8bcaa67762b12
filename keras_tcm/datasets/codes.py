"""Handwritten codes of four digits, two above two.

A class is a code, such as 3 0 / 4 7. Each of its images joins four of the handwritten
digits of `datasets.digits`, each varied like the glyphs. Training and testing
have other codes, and other images of the digits: the first and the second half of
them, which other people wrote. It stands for matching by the hand or
the print of many writers: forms, labels, number plates.

Codes differ in variability, uniform in 0 to 1: it scales the distortions (up to 75% of
those of the glyphs, because digits of 8 x 8 pixels bear no more), and of each digit a
code has from 2 images to all of them. They differ in size too, log-uniform: 20 to 160
images in training, 12 to 60 in testing.
"""

import os

import numpy as np

from keras_tcm.datasets.cache import Arrays, cached_arrays
from keras_tcm.datasets.character_images import log_uniform, vary
from keras_tcm.datasets.digits import load_all

Split = tuple[np.ndarray, np.ndarray]

# Seeds the stream of every code. Change with anything that changes the images.
VERSION = 1
NUM_TRAIN_CLASSES = 300
NUM_TEST_CLASSES = 300
TRAIN_COUNTS = (20, 160)
TEST_COUNTS = (12, 60)
CELL_SIZE = 14
# Pixels of a digit of 8 x 8 on one of a cell.
ZOOM = 8 / 11
FILE_NAME = f"codes-v{VERSION}.npz"


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns the codes; puts them together the first time.

    Args:
        data_dir: Folder to keep the images in. Defaults to `keras_tcm` in
            `$KERAS_HOME`, or in `~/.keras` where that is not set.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
        `(N, 28, 28, 1)`, bright on dark, and int64 labels of shape `(N,)`, in
        order of class. Train classes are `0 ... C - 1`, test classes go on from
        `C`.
    """
    keys = ("x_train", "y_train", "x_test", "y_test")
    arrays = cached_arrays(FILE_NAME, keys, _generate, data_dir)
    x_train, y_train, x_test, y_test = (arrays[key] for key in keys)
    return (x_train, y_train), (x_test, y_test)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the code of each label.

    Args:
        data_dir: As in `load`.

    Returns:
        Four digits per label, the train classes first.
    """
    codes = cached_arrays(FILE_NAME, ("codes",), _generate, data_dir)["codes"]
    return tuple(f"{code:04d}" for code in codes)


def _generate() -> Arrays:
    images, digits = load_all()
    masters = np.pad(images[..., 0] / 255, ((0, 0), (1, 1), (1, 1)))
    half = len(masters) // 2
    # The Generator streams may change between NumPy versions, this one may not.
    order = np.argsort(
        np.random.RandomState(VERSION).random_sample(10_000), kind="stable"
    )
    train = order[:NUM_TRAIN_CLASSES]
    test = order[NUM_TRAIN_CLASSES : NUM_TRAIN_CLASSES + NUM_TEST_CLASSES]
    arrays = {"codes": np.concatenate([train, test])}
    for split, codes, writers, counts, first_label in (
        ("train", train, slice(half), TRAIN_COUNTS, 0),
        ("test", test, slice(half, None), TEST_COUNTS, len(train)),
    ):
        of_digit = [masters[writers][digits[writers] == digit] for digit in range(10)]
        drawn = [_draw(code, of_digit, counts) for code in codes]
        labels = np.arange(first_label, first_label + len(drawn), dtype="int64")
        arrays[f"x_{split}"] = np.concatenate(drawn)
        arrays[f"y_{split}"] = np.repeat(labels, [len(x) for x in drawn])
    return arrays


def _draw(code: int, of_digit: list[np.ndarray], counts: tuple[int, int]) -> np.ndarray:
    """Draws all instances of one code, uint8 of shape `(count, 28, 28, 1)`."""
    stream = np.random.RandomState([VERSION, code])
    level, position = stream.random_sample(2)
    count = log_uniform(position, *counts)
    cells = []
    for digit in f"{code:04d}":
        masters = of_digit[int(digit)]
        shuffled = np.argsort(stream.random_sample(len(masters)), kind="stable")
        some = masters[shuffled[: 2 + int(level * (len(masters) - 1))]]
        cells.append(vary(some, stream, count, 0.15 + 0.6 * level, CELL_SIZE, ZOOM))
    rows = [np.concatenate(pair, axis=2) for pair in (cells[:2], cells[2:])]
    return np.concatenate(rows, axis=1)
