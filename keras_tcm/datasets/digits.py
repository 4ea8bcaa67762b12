"""Handwritten digits: 0 to 4 to train on, 5 to 9 to test on.

`digits.npz` holds the 1,797 images of the test set of "Optical Recognition of
Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
licence CC BY 4.0), in their order and with their 17 grey levels. scikit-learn ships the
same images.
"""

import importlib.resources
import os

import numpy as np

Split = tuple[np.ndarray, np.ndarray]

NUM_TRAIN_CLASSES = 5


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns 1,797 handwritten digits, which come with the package.

    Small enough to try a loss on in seconds; too few classes to compare losses.

    Args:
        data_dir: Not used, the images are part of the package.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
        `(N, 8, 8, 1)`, 0 to 255, and int64 labels of shape `(N,)`, 0 to 4 in
        train, 5 to 9 in test.

    Example:

    >>> from keras_tcm.datasets import digits
    >>> (x_train, y_train), (x_test, y_test) = digits.load()
    >>> x_test.shape
    (896, 8, 8, 1)

    Reference:
        - [Alpaydin and Kaynak, 1998](https://archive.ics.uci.edu/dataset/80)
    """
    images, labels = load_all()
    train = labels < NUM_TRAIN_CLASSES
    return (images[train], labels[train]), (images[~train], labels[~train])


def load_all() -> Split:
    """Returns all digits, in the order of the original.

    Returns:
        uint8 images of shape `(1797, 8, 8, 1)`, 0 to 255, and int64 labels of shape
        `(1797,)`.
    """
    path = importlib.resources.files("keras_tcm.datasets") / "digits.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    # The 17 grey levels 0 ... 16, spread over 0 ... 255.
    images = (images.astype("int64") * 255 // 16).astype("uint8")
    return images[..., None], labels.astype("int64")
