"""Embeddings of any source, checked and sorted by class."""

from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation.errors import UndefinedError

# Rows that are read, checked and normalised at a time.
_CHUNK_ROWS = 16384


class Samples:
    """Embeddings sorted by class and scaled to unit length.

    A `numpy.memmap` is read in blocks each time; anything else is normalised once.

    Attributes:
        size: Number of samples, `n`.
        codes: Class index of each sample in sorted order, shape `(n,)`.
        order: Position in the input of each sample in sorted order, shape `(n,)`.
    """

    def __init__(self, embeddings: np.ndarray, codes: np.ndarray) -> None:
        self.order = np.argsort(codes, kind="stable")
        self.codes = codes[self.order]
        self.size = len(codes)
        self._source = embeddings
        self._normalized: Any = None
        if not isinstance(embeddings, np.memmap):
            chunks = [
                self._read(start, min(start + _CHUNK_ROWS, self.size))
                for start in range(0, self.size, _CHUNK_ROWS)
            ]
            self._normalized = keras.ops.convert_to_tensor(np.concatenate(chunks))

    def rows(self, start: int, stop: int) -> Any:
        """Unit vectors `start` to `stop` in sorted order: a float32 backend tensor."""
        if self._normalized is not None:
            # Not by indexing, which JAX would compile for each `start`.
            dimension = self._normalized.shape[1]
            return keras.ops.slice(
                self._normalized, (start, 0), (stop - start, dimension)
            )
        return keras.ops.convert_to_tensor(self._read(start, stop))

    def similarities(self, rows: Any, start: int) -> np.ndarray:
        """Cosine similarities of unit vectors with the samples from `start` on.

        Args:
            rows: Backend tensor of shape `(b, d)`.
            start: First sample in sorted order.

        Returns:
            Float32 array of shape `(b, size - start)`.
        """
        if self._normalized is not None:
            return _product(rows, self.rows(start, self.size))
        return np.concatenate(
            [
                _product(rows, self.rows(first, min(first + _CHUNK_ROWS, self.size)))
                for first in range(start, self.size, _CHUNK_ROWS)
            ],
            axis=1,
        )

    def _read(self, start: int, stop: int) -> np.ndarray:
        x = np.asarray(self._source[self.order[start:stop]], dtype=np.float64)
        largest = np.abs(x).max(axis=1, keepdims=True)
        x /= np.where(largest > 0, largest, 1.0)
        norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
        return (x / np.where(norm > 0, norm, 1.0)).astype(np.float32)


def _product(x: Any, y: Any) -> np.ndarray:
    product = keras.ops.matmul(x, keras.ops.transpose(y))
    return keras.ops.convert_to_numpy(product)


def check_embeddings(name: str, embeddings: Any) -> np.ndarray:
    """Return embeddings as a finite floating-point array of shape `(n, d)`.

    Args:
        name: Name of the argument.
        embeddings: Array, backend tensor, nested sequence or `numpy.memmap`.

    Returns:
        The array; a `numpy.memmap` is returned as it is.
    """
    if not isinstance(embeddings, np.ndarray):
        if keras.ops.is_tensor(embeddings):
            if keras.backend.standardize_dtype(embeddings.dtype) == "bfloat16":
                embeddings = keras.ops.cast(embeddings, "float32")
            embeddings = keras.ops.convert_to_numpy(embeddings)
        embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"`{name}` must have shape (samples, dimension), both at least 1. "
            f"Received: {name}.shape={embeddings.shape}"
        )
    # NumPy calls bfloat16 (from ml_dtypes) a void type.
    if embeddings.dtype.kind not in "fiu" and embeddings.dtype.name != "bfloat16":
        raise TypeError(
            f"`{name}` must hold real numbers. "
            f"Received: {name}.dtype={embeddings.dtype}"
        )
    bad_rows = []
    for start in range(0, len(embeddings), _CHUNK_ROWS):
        chunk = np.asarray(embeddings[start : start + _CHUNK_ROWS], dtype=np.float64)
        bad_rows.append(np.flatnonzero(~np.isfinite(chunk).all(axis=1)) + start)
    bad = np.concatenate(bad_rows)
    if len(bad):
        raise UndefinedError(
            f"`{name}` must be finite. Received: {len(bad)} of {len(embeddings)} rows "
            f"with NaN or infinite entries, the first at index {bad[0]}"
        )
    return embeddings
