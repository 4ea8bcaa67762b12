"""Embeddings of any source, checked, sorted by class and scaled to unit length."""

import functools
from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation.errors import UndefinedError

# Rows that are read, checked and normalised at a time.
_CHUNK_ROWS = 16384
# Blocks kept as backend tensors.
_CACHED_BLOCKS = 9


class Samples:
    """Embeddings sorted by class and scaled to unit length.

    A `numpy.memmap` is read in blocks each time; anything else is normalised once.

    Attributes:
        size: Number of samples, `n`.
        dimension: Length of each vector.
        codes: Class index of each sample in sorted order, shape `(n,)`.
        starts: First sample of each class, and `n`: shape `(num_classes + 1,)`.
        num_cached_blocks: Blocks kept as backend tensors.
    """

    def __init__(
        self, embeddings: np.ndarray, codes: np.ndarray, num_classes: int
    ) -> None:
        self.size, self.dimension = embeddings.shape
        self._order = np.argsort(codes, kind="stable")
        self.codes = codes[self._order]
        self.starts = np.searchsorted(self.codes, np.arange(num_classes + 1))
        self._source = embeddings
        self._normalized: np.ndarray | None = None
        if not isinstance(embeddings, np.memmap):
            normalized = np.empty(embeddings.shape, np.float32)
            for start in range(0, self.size, _CHUNK_ROWS):
                stop = min(start + _CHUNK_ROWS, self.size)
                normalized[start:stop] = self.rows(start, stop)
            self._normalized = normalized
        self.num_cached_blocks = _CACHED_BLOCKS
        self._block = functools.lru_cache(_CACHED_BLOCKS)(self._make_block)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Unit vectors `start` to `stop` in sorted order, float32."""
        if self._normalized is not None:
            return self._normalized[start:stop]
        return _normalize(self._source[self._order[start:stop]])

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Unit vectors at any positions in sorted order, float32."""
        if self._normalized is not None:
            return self._normalized[samples]
        return _normalize(self._source[self._order[samples]])

    def block(self, start: int, size: int) -> Any:
        """Unit vectors from `start` on as a backend tensor of `size` rows.

        Rows past the last sample are zero: JAX compiles the product anew for every
        shape.
        """
        return self._block(start, size)

    def _make_block(self, start: int, size: int) -> Any:
        return to_block(self.rows(start, min(start + size, self.size)), size)


def unsorted_samples(embeddings: np.ndarray) -> Samples:
    """Samples in the order in which they come, of one class."""
    return Samples(embeddings, np.zeros(len(embeddings), np.int64), 1)


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
        chunk = embeddings[start : start + _CHUNK_ROWS]
        # One pass: the sum is finite unless an entry is not, or it overflows.
        if not np.isfinite(np.sum(chunk, dtype=np.float64)):
            chunk = np.asarray(chunk, dtype=np.float64)
            bad_rows.append(np.flatnonzero(~np.isfinite(chunk).all(axis=1)) + start)
    bad = np.concatenate(bad_rows) if bad_rows else np.zeros(0, np.int64)
    if len(bad):
        raise UndefinedError(
            f"`{name}` must be finite. Received: {len(bad)} of {len(embeddings)} rows "
            f"with NaN or infinite entries, the first at index {bad[0]}"
        )
    return embeddings


def _normalize(rows: np.ndarray) -> np.ndarray:
    if rows.dtype == np.float32:
        squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        # Otherwise float32 does not hold the norms, or some entries, to full precision.
        if squared.min() > 1e-30 and squared.max() < 1e70:
            return rows / np.sqrt(squared).astype(np.float32)[:, None]
    x = np.asarray(rows, dtype=np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return (x / np.where(norm > 0, norm, 1.0)).astype(np.float32)
