"""Embeddings of any source, checked, sorted by class and scaled to unit length."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation._inputs.files import MappedRows, Shards, open_shards
from keras_tcm.evaluation.errors import UndefinedError

# Rows that are read, checked and normalised at a time.
CHUNK_ROWS = 16384
_CACHED_TENSORS = 9


@dataclasses.dataclass(frozen=True, eq=False)
class UnitVectors:
    """Float32 vectors of unit length, or zero, whose parts can go to other processes.

    Attributes:
        source: The vectors in memory; or what takes an array of row numbers and returns
            rows of any length, which are read and normalised whenever they are needed.
        order: The row of each vector, shape `(n,)`; `None` if they are in memory.
    """

    source: Any
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source if self.order is None else self.order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if self.order is None:
            return self.source[index]
        return normalize(self.source[self.order[index]])

    def part(self, some: range) -> "UnitVectors":
        """Consecutive vectors alone: another process is sent no more."""
        index = slice(some.start, some.stop)
        if self.order is None:
            return UnitVectors(self.source[index])
        return UnitVectors(self.source, self.order[index])


class TensorRows:
    """Consecutive vectors as backend tensors, of which the latest are kept.

    Other processes are sent the vectors.

    Args:
        vectors: The vectors.
        num_cached: Tensors that are kept.

    Attributes:
        vectors: See above.
        num_cached: See above.
    """

    def __init__(self, vectors: UnitVectors, num_cached: int = _CACHED_TENSORS) -> None:
        self.vectors = vectors
        self.num_cached = num_cached

        # No method of this object, which would then outlive its last use.
        @functools.lru_cache(num_cached)
        def tensor(start: int, size: int) -> Any:
            return to_tensor(vectors[start : start + size], size)

        self._tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorRows, (self.vectors, self.num_cached)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self.vectors)

    def part(self, some: range) -> "TensorRows":
        """Consecutive vectors alone."""
        return TensorRows(self.vectors.part(some))

    def tensor(self, start: int, size: int) -> Any:
        """Vectors from `start` on as a backend tensor of `size` rows.

        Rows past the last vector are zero: JAX compiles the product anew for every
        shape.
        """
        return self._tensor(start, size)


def to_tensor(rows: np.ndarray, size: int) -> Any:
    """Backend tensor of `size` rows, the last of which are zero if there are fewer."""
    if len(rows) < size:
        rows = np.pad(rows, ((0, size - len(rows)), (0, 0)))
    return keras.ops.convert_to_tensor(rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Embeddings sorted by class and scaled to unit length.

    Attributes:
        tensors: The unit vectors in sorted order, also as backend tensors.
        codes: Class index of each sample in sorted order, shape `(n,)`.
        starts: First sample of each class, and `n`: shape `(num_classes + 1,)`.
        order: Place of each sample before it was sorted, shape `(n,)`.
    """

    tensors: TensorRows
    codes: np.ndarray
    starts: np.ndarray
    order: np.ndarray

    @property
    def size(self) -> int:
        """Number of samples, `n`."""
        return len(self.codes)

    @property
    def vectors(self) -> UnitVectors:
        """The unit vectors in sorted order."""
        return self.tensors.vectors

    def some(self, places: np.ndarray) -> "Samples":
        """The samples at increasing places alone, of the same classes."""
        return sort_samples(
            self.vectors[places], self.codes[places], len(self.starts) - 1
        )


def sort_samples(
    embeddings: np.ndarray | Shards, codes: np.ndarray, num_classes: int
) -> Samples:
    """Sort embeddings by class.

    A `numpy.memmap` and `Shards` are read and normalised in chunks each time; anything
    else is normalised once.

    Args:
        embeddings: What `check_embeddings` returned.
        codes: Class index of each, shape `(n,)`.
        num_classes: Number of classes.
    """
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    if isinstance(embeddings, Shards):
        vectors = UnitVectors(embeddings, order)
    elif isinstance(embeddings, np.memmap):
        vectors = UnitVectors(MappedRows(embeddings), order)
    else:
        vectors = _hold(embeddings, order)
    starts = np.searchsorted(codes, np.arange(num_classes + 1))
    return Samples(TensorRows(vectors), codes, starts, order)


def unsorted_samples(embeddings: np.ndarray | Shards) -> Samples:
    """Samples in the order in which they come, of one class."""
    return sort_samples(embeddings, np.zeros(len(embeddings), np.int64), 1)


def check_embeddings(name: str, embeddings: Any) -> np.ndarray | Shards:
    """Return embeddings as finite real numbers of shape `(n, d)`.

    Args:
        name: Name of the argument.
        embeddings: Array, backend tensor, nested sequence, `numpy.memmap`, or list of
            paths of `.npy` files.

    Returns:
        The array; a `numpy.memmap` is returned as it is, and paths as `Shards`.
    """
    embeddings = open_shards(name, embeddings)
    if not isinstance(embeddings, np.ndarray | Shards):
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
    for start in range(0, len(embeddings), CHUNK_ROWS):
        chunk = embeddings[start : start + CHUNK_ROWS]
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


def _hold(embeddings: np.ndarray, order: np.ndarray) -> UnitVectors:
    """Normalise embeddings once, in another order."""
    unit = np.empty(embeddings.shape, np.float32)
    for start in range(0, len(order), CHUNK_ROWS):
        some = order[start : start + CHUNK_ROWS]
        unit[start : start + len(some)] = normalize(embeddings[some])
    return UnitVectors(unit)


def normalize(rows: np.ndarray) -> np.ndarray:
    """Scale each row to unit length, whatever rows it comes with; float32."""
    if rows.dtype != np.float32:
        return _normalize_any(rows)
    squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    # Otherwise float32 does not hold the norms, or some entries, to full precision.
    is_plain = (squared > 1e-30) & (squared < 1e70)
    if is_plain.all():
        return rows / np.sqrt(squared).astype(np.float32)[:, None]
    squared[~is_plain] = 1.0
    unit = rows / np.sqrt(squared).astype(np.float32)[:, None]
    unit[~is_plain] = _normalize_any(rows[~is_plain])
    return unit


def _normalize_any(rows: np.ndarray) -> np.ndarray:
    x = np.asarray(rows, dtype=np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return (x / np.where(norm > 0, norm, 1.0)).astype(np.float32)
