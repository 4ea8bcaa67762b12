"""Unit vectors, in memory or in files, whose parts can go to other processes."""

import dataclasses
from typing import Any, Protocol, Self

import numpy as np

# Rows that are read, checked and normalised at a time.
CHUNK_ROWS = 16384


class Vectors(Protocol):
    """Float32 vectors of unit length, or zero."""

    @property
    def size(self) -> int:
        """Number of vectors."""

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Vectors `start` to `stop`."""

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Vectors at any positions."""

    def part(self, start: int, stop: int) -> Self:
        """Vectors `start` to `stop` alone: another process is sent no more."""


@dataclasses.dataclass(frozen=True)
class HeldVectors:
    """Unit vectors in memory: those that a process counts are sent to it.

    Attributes:
        array: The vectors, shape `(n, d)`.
    """

    array: np.ndarray

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self.array)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Vectors `start` to `stop`."""
        return self.array[start:stop]

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Vectors at any positions."""
        return self.array[samples]

    def part(self, start: int, stop: int) -> "HeldVectors":
        """Vectors `start` to `stop` alone."""
        return HeldVectors(self.array[start:stop])


@dataclasses.dataclass(frozen=True)
class StoredVectors:
    """Vectors that are read from files, and normalised, whenever they are needed.

    Attributes:
        source: What takes an array of row numbers and returns the rows: `FileRows` or
            `Shards`.
        order: The row of each vector, shape `(n,)`.
    """

    source: Any
    order: np.ndarray

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self.order)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Vectors `start` to `stop`."""
        return normalize(self.source[self.order[start:stop]])

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Vectors at any positions."""
        return normalize(self.source[self.order[samples]])

    def part(self, start: int, stop: int) -> "StoredVectors":
        """Vectors `start` to `stop` alone."""
        return StoredVectors(self.source, self.order[start:stop])


def hold(embeddings: np.ndarray, order: np.ndarray) -> HeldVectors:
    """Normalise embeddings once, in another order."""
    stored = StoredVectors(embeddings, order)
    normalized = np.empty(embeddings.shape, np.float32)
    for start in range(0, len(order), CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, len(order))
        normalized[start:stop] = stored.rows(start, stop)
    return HeldVectors(normalized)


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
