"""Blocks of vectors as backend tensors, and their products."""

import functools
from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation.vectors import Vectors

_CACHED_BLOCKS = 9


class Blocks:
    """Consecutive vectors as backend tensors, of which the latest are kept.

    Args:
        vectors: The vectors.
        num_cached: Blocks that are kept.

    Attributes:
        vectors: See above.
        num_cached: See above.
    """

    def __init__(self, vectors: Vectors, num_cached: int = _CACHED_BLOCKS) -> None:
        self.vectors = vectors
        self.num_cached = num_cached
        # No method of this object, which would then outlive its last use.
        make = functools.partial(_make_block, vectors)
        self._block = functools.lru_cache(num_cached)(make)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self.vectors.size

    def block(self, start: int, size: int) -> Any:
        """Vectors from `start` on as a backend tensor of `size` rows.

        Rows past the last vector are zero: JAX compiles the product anew for every
        shape.
        """
        return self._block(start, size)


def to_block(rows: np.ndarray, size: int) -> Any:
    """Backend tensor of `size` rows, the last of which are zero if there are fewer."""
    if len(rows) < size:
        rows = np.pad(rows, ((0, size - len(rows)), (0, 0)))
    return keras.ops.convert_to_tensor(rows)


def similarities(rows: Any, columns: Any) -> np.ndarray:
    """Products of all rows of two backend tensors, on the host; may be read-only."""
    product = keras.ops.matmul(rows, keras.ops.transpose(columns))
    # Without the copy that Keras makes.
    if keras.backend.backend() == "torch":
        return product.detach().cpu().numpy()
    return np.asarray(product)


def _make_block(vectors: Vectors, start: int, size: int) -> Any:
    return to_block(vectors.rows(start, min(start + size, vectors.size)), size)
