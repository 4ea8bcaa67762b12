"""Whether a data set gives the same rows in the same order at each pass."""

import types
from typing import Any

import keras
import numpy as np

from keras_tcm.data import ClassBalancedSampler, ImageBatches
from keras_tcm.data.augmentation import to_numpy

_ADVICE = (
    "give arrays, `keras_tcm.data.ImageBatches`, or a data set that neither shuffles "
    "nor augments"
)
# Two batches in an order that is drawn come in the same order at half of the passes.
_PASSES = 5


def check_same_rows(x: Any, y: Any) -> None:
    """Raise unless the first batch is the same at every pass and belongs to `y`.

    Args:
        x: What `model.predict` accepts.
        y: One label per row, or `None` if they are of another kind.

    Raises:
        TypeError: If `x` is used up by one pass.
        ValueError: If it shuffles, has another number of rows than `y`, or comes with
            other labels.
    """
    received = f"Received: x={x!r}"
    if y is not None and not hasattr(y, "__len__"):
        raise TypeError(
            f"`y` must be an array or a sequence of labels. Received: y={y!r}"
        )
    if isinstance(x, types.GeneratorType):
        raise TypeError(
            f"`x` must give its rows at every evaluation, and a generator gives them "
            f"once: {_ADVICE}. {received}"
        )
    if isinstance(x, ClassBalancedSampler):
        raise ValueError(
            "`x` must have its rows in the order of `y`, and a sampler draws them: "
            f"{_ADVICE}. {received}"
        )
    if not _is_data_set(x):
        leaves = [leaf for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
        if y is not None and leaves and len(leaves[0]) != len(y):
            raise ValueError(
                f"`y` must have one label per row of `x`, {len(leaves[0])}. "
                f"Received: {len(y)} labels"
            )
        return
    if isinstance(x, ImageBatches):
        return
    first = _first_batch(x)
    if not all(_are_equal(first, _first_batch(x)) for _ in range(_PASSES)):
        raise ValueError(
            "`x` must have the same rows in the order of `y` at every pass: "
            f"{_ADVICE}. {received}, with another first batch at another pass"
        )
    labels = first[1] if isinstance(first, tuple | list) and len(first) > 1 else None
    if labels is not None and y is not None and not _agree(labels, y):
        raise ValueError(
            "`y` must have the labels of the rows of `x` in their order. "
            f"{received}, whose first batch comes with other labels"
        )


def _is_data_set(x: Any) -> bool:
    """Whether it hands out batches: one of Keras, tf.data, PyTorch or grain."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    is_array = hasattr(x, "shape") or isinstance(x, list | tuple | dict)
    return hasattr(x, "__iter__") and not is_array


def _first_batch(x: Any) -> Any:
    if not isinstance(x, keras.utils.PyDataset):
        return next(iter(x), None)
    x.on_epoch_begin()
    batch = x[0]
    x.on_epoch_end()
    return batch


def _are_equal(first: Any, second: Any) -> bool:
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return all(_is_equal(to_numpy(a), to_numpy(b)) for a, b in pairs)


def _is_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")


def _agree(labels: Any, y: Any) -> bool:
    """Whether labels of a batch are the first in `y`, up to their encoding."""
    labels, first = to_numpy(labels), to_numpy(y[: len(labels)])
    if labels.ndim != 1 or labels.shape != first.shape:
        return True  # Labels of several outputs, or fewer labels than rows.
    pairs = set(zip(labels.tolist(), first.tolist(), strict=True))
    return all(len(set(side)) == len(pairs) for side in zip(*pairs, strict=True))
