"""Positive pairs from a matrix over classes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_tcm.relevance.relevance import Relevance


@keras.saving.register_keras_serializable(package="keras_tcm")
class ClassRelevance(Relevance):
    """A matrix that tells for every two classes whether they match.

    The pair of an anchor of class `a` with a partner of class `b` is positive where
    `matrix[a, b]` is above 0. Classes that do not match themselves have no positive
    pairs of their own.

    Args:
        matrix: Numbers or booleans of shape `(num_classes, num_classes)`.

    Raises:
        TypeError: If `matrix` does not hold numbers.
        ValueError: If `matrix` is not square. In use, a label outside
            `[0, num_classes)` matches nothing.

    Example:

    >>> spelled_alike = keras_tcm.relevance.ClassRelevance([[1, 1, 0], [1, 1, 0],
    ...                                                     [0, 0, 1]])
    >>> labels = np.array([0, 1, 2])
    >>> keras.ops.convert_to_numpy(spelled_alike(labels, labels))[0].tolist()
    [True, True, False]
    """

    has_class_labels = True

    def __init__(self, matrix: Any) -> None:
        array = np.asarray(matrix)
        if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
            raise ValueError(
                "`matrix` must have shape (num_classes, num_classes). "
                f"Received: matrix.shape={array.shape}"
            )
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"`matrix` must hold numbers. Received: matrix.dtype={array.dtype}"
            )
        self.matrix = array > 0
        self.is_symmetric = bool((self.matrix == self.matrix.T).all())

    def check_labels(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise unless there is one label for each sample."""
        if len(shape) != 1:
            raise ValueError(
                f"`{name}` must have shape (batch,). Received: {name}.shape={shape}"
            )

    def __call__(self, anchor_labels: Any, partner_labels: Any) -> Any:
        """Tell which pairs are of matching classes, shape `(a, n)`."""
        num_classes = len(self.matrix)
        # Labels outside take the last row or column, in which nothing matches.
        matrix = np.pad(self.matrix, (0, 1))

        def inside(labels: Any) -> Any:
            labels = ops.convert_to_tensor(labels)
            if ops.dtype(labels) != "int64":
                # Eight bits may not hold the number of classes.
                labels = ops.cast(labels, "int32")
            is_known = ops.logical_and(labels >= 0, labels < num_classes)
            return ops.cast(ops.where(is_known, labels, num_classes), "int32")

        rows = ops.take(
            ops.convert_to_tensor(matrix, "bool"), inside(anchor_labels), axis=0
        )
        return ops.take(rows, inside(partner_labels), axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"matrix": self.matrix.astype(int).tolist()}
