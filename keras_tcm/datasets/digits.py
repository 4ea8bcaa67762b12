"""Handwritten digits: 0 to 4 to train on, 5 to 9 to test on."""

import os

import numpy as np

Split = tuple[np.ndarray, np.ndarray]

NUM_TRAIN_CLASSES = 5


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns the 1,797 digits that come with scikit-learn.

    Small enough to try a loss on in seconds; too few classes to compare losses.

    Args:
        data_dir: Not used, scikit-learn carries the images itself.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
        `(N, 8, 8, 1)`, 0 to 255, and int64 labels of shape `(N,)`, 0 to 4 in
        train, 5 to 9 in test.

    Raises:
        ImportError: If scikit-learn is not installed.

    Example:

    >>> from keras_tcm.datasets import digits
    >>> (x_train, y_train), (x_test, y_test) = digits.load()
    >>> x_test.shape
    (896, 8, 8, 1)
    """
    images, labels = scikit_learn_digits()
    train = labels < NUM_TRAIN_CLASSES
    return (images[train], labels[train]), (images[~train], labels[~train])


def scikit_learn_digits() -> Split:
    """Returns all of scikit-learn's digits, in the order of its file.

    Returns:
        uint8 images of shape `(1797, 8, 8, 1)`, 0 to 255, and int64 labels of shape
        `(1797,)`.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits data set comes with scikit-learn. "
            "Install it with `pip install scikit-learn`."
        ) from error
    images, labels = load_digits(return_X_y=True)
    # The 17 grey levels 0 ... 16, spread over 0 ... 255.
    images = (images.astype("int64") * 255 // 16).astype("uint8")
    return images.reshape(-1, 8, 8, 1), labels.astype("int64")
