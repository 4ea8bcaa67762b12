"""Labels of any hashable kind, checked and numbered."""

import contextlib
import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np


def check_labels(name: str, labels: Any, size: int) -> list[Hashable] | np.ndarray:
    """Return one hashable label per sample.

    Args:
        name: Name of the argument.
        labels: Array of shape `(n,)` or `(n, 1)`, backend tensor, or sequence of
            hashable objects.
        size: Number of samples expected.

    Returns:
        An array of integers, booleans or strings, or a list of anything else.
    """
    if keras.ops.is_tensor(labels):
        labels = keras.ops.convert_to_numpy(labels)
    elif hasattr(labels, "__array__"):
        labels = np.asarray(labels)
    if not isinstance(labels, np.ndarray):
        if isinstance(labels, str | bytes) or not isinstance(labels, Sequence):
            raise TypeError(
                f"`{name}` must be an array or a sequence. Received: {name}={labels!r}"
            )
        plain = all(isinstance(x, numbers.Real) for x in labels) or all(
            isinstance(x, str) for x in labels
        )
        labels = np.asarray(labels) if plain else list(labels)
    if isinstance(labels, np.ndarray):
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise ValueError(
                f"`{name}` must have shape (samples,). "
                f"Received: {name}.shape={labels.shape}"
            )
        if labels.dtype.kind == "f":
            whole = np.isfinite(labels) & (labels == np.floor(labels))
            if not whole.all():
                index = int(np.argmin(whole))
                raise ValueError(
                    f"`{name}` must be whole numbers where they are floats. "
                    f"Received: {name}[{index}]={labels[index]}"
                )
            labels = labels.astype(np.int64)
        elif labels.dtype.kind not in "iubUS":
            labels = labels.tolist()
    if len(labels) != size:
        raise ValueError(
            f"`{name}` must have one label per sample, {size}. "
            f"Received: {len(labels)} labels"
        )
    if isinstance(labels, list):
        for index, label in enumerate(labels):
            message = (
                f"`{name}` must be hashable and not NaN. "
                f"Received: {name}[{index}]={label!r}"
            )
            try:
                hash(label)
            except TypeError:
                raise TypeError(message) from None
            if label != label:
                raise ValueError(message)
    return labels


def encode_labels(
    *label_sets: list[Hashable] | np.ndarray,
) -> tuple[list[Hashable], list[np.ndarray]]:
    """Number the classes that occur in several sets of labels.

    Args:
        label_sets: Labels as `check_labels` returns them.

    Returns:
        The classes (sorted where they can be, else in order of appearance), and for
        each set the index of each label among them.
    """
    arrays = [labels for labels in label_sets if isinstance(labels, np.ndarray)]
    # One kind only: NumPy would turn 1 into "1", and int64 beside uint64 into floats.
    if len(arrays) == len(label_sets) and len({x.dtype.kind for x in arrays}) == 1:
        classes, codes = np.unique(np.concatenate(arrays), return_inverse=True)
        ends = np.cumsum([len(labels) for labels in arrays])
        return classes.tolist(), np.split(codes.reshape(-1), ends[:-1])
    lists = [
        labels.tolist() if isinstance(labels, np.ndarray) else labels
        for labels in label_sets
    ]
    seen: dict[Hashable, None] = dict.fromkeys(x for labels in lists for x in labels)
    found = list(seen)
    # Labels of kinds that have no order stay in order of appearance.
    with contextlib.suppress(TypeError):
        found = sorted(found)  # type: ignore[type-var]
    index = {label: code for code, label in enumerate(found)}
    return found, [np.array([index[x] for x in labels]) for labels in lists]


def label_array(labels: Sequence[Hashable]) -> np.ndarray:
    """Return labels as an array of shape `(n,)`.

    Args:
        labels: Labels of any kind.

    Returns:
        An array of integers (int64) or strings where all labels are such, else of
        objects: NumPy would make a matrix of tuples.
    """
    if labels and all(isinstance(label, str) for label in labels):
        return np.array(labels)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    is_integer = all(
        isinstance(label, numbers.Integral)
        and not isinstance(label, bool)
        and -(2**63) <= label < 2**63
        for label in labels
    )
    return array.astype(np.int64) if is_integer else array
