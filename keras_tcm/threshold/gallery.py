"""What is enrolled in a matcher, and how it is searched."""

import dataclasses
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from keras_tcm.evaluation import (
    STEPS_PER_UNIT,
    full_precision,
    similarities,
    to_steps,
    to_tensor,
)
from keras_tcm.threshold.threshold import pair_similarities

# Rows that are compared at a time, of the queries and of the gallery. Their products,
# 8 MiB, stay in the cache of a processor.
QUERY_ROWS = 1024
GALLERY_ROWS = 2048
# Few shapes: JAX compiles a product for each.
LEAST_ROWS = 256
# Pairs that are looked at again in float64 at a time.
CHECKED_PAIRS = 16384
# Steps that a float32 product may be wrong by, and some to spare.
_MARGIN = 4.0
# Queries, places of what they match, and the distances in steps.
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """What is enrolled at a moment.

    Later ones share the lists and arrays, and only append to them.

    Attributes:
        ids: At least `size` ids.
        places: Place of each id, of later ones too; for who holds the lock.
        vectors: At least `size` unit vectors, and room for more.
        size: How many there are.
        tensors: Backend tensors of blocks of the vectors, and how many rows of each
            were filled when it was made.
    """

    ids: list[Hashable]
    places: dict[Hashable, int]
    vectors: np.ndarray
    size: int
    tensors: dict[int, tuple[int, Any]]

    @classmethod
    def empty(cls, dimension: int) -> "Gallery":
        """A gallery of nobody."""
        return cls([], {}, np.zeros((LEAST_ROWS, dimension), np.float32), 0, {})

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return min(len(self.vectors), GALLERY_ROWS)

    def with_more(self, ids: list[Hashable], vectors: np.ndarray) -> "Gallery":
        """The same with more: to be called once, as it appends to what is shared."""
        size = self.size + len(ids)
        rows, tensors = self.vectors, self.tensors
        if size > len(rows):
            capacity = LEAST_ROWS
            while capacity < size:
                capacity *= 2
            rows = np.zeros((capacity, rows.shape[1]), np.float32)
            rows[: self.size] = self.vectors[: self.size]
            if min(capacity, GALLERY_ROWS) != self.block_rows:
                tensors = {}
        rows[self.size : size] = vectors
        self.places.update(zip(ids, range(self.size, size), strict=True))
        self.ids.extend(ids)
        return Gallery(self.ids, self.places, rows, size, tensors)

    def some(self, places: np.ndarray) -> "Gallery":
        """Some of it, in lists and arrays of its own."""
        ids = [self.ids[place] for place in places.tolist()]
        empty = Gallery.empty(self.vectors.shape[1])
        return empty.with_more(ids, self.vectors[places])

    def near(self, queries: np.ndarray, cut: int) -> list[Pairs]:
        """Find the pairs up to a distance in steps.

        Args:
            queries: Unit vectors of shape `(n, d)`.
            cut: The distance.
        """
        with full_precision():
            return [
                self.matching(queries, cut, *pairs)
                for pairs in self._candidates(queries, least_product(cut))
            ]

    def matching(
        self, queries: np.ndarray, cut: int, rows: np.ndarray, places: np.ndarray
    ) -> Pairs:
        """Of pairs that may match, those that do.

        Whatever found them: neither what matches nor the order may depend on that.
        """
        steps = np.empty(len(rows), np.int32)
        for start in range(0, len(rows), CHECKED_PAIRS):
            some = slice(start, start + CHECKED_PAIRS)
            steps[some] = to_steps(
                pair_similarities(queries[rows[some]], self.vectors[places[some]])
            )
        is_match = steps <= cut
        return rows[is_match], places[is_match], steps[is_match]

    def _candidates(
        self, queries: np.ndarray, least: np.float32
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Queries and places of the pairs from a similarity on."""
        num_rows = LEAST_ROWS
        while num_rows < min(len(queries), QUERY_ROWS):
            num_rows *= 2
        for first in range(0, len(queries), num_rows):
            some = queries[first : first + num_rows]
            rows = to_tensor(some, num_rows)
            for start in range(0, self.size, self.block_rows):
                num_columns = min(self.size - start, self.block_rows)
                products = similarities(rows, self._tensor(start, num_columns))
                products = products[: len(some), :num_columns]
                # A sixth of the time of `np.nonzero` in two dimensions.
                near = np.flatnonzero(products.ravel() >= least)
                found, columns = np.divmod(near, num_columns)
                yield found + first, columns + start

    def _tensor(self, start: int, num_rows: int) -> Any:
        filled, tensor = self.tensors.get(start, (0, None))
        if filled < num_rows:
            # A copy, which what is added meanwhile does not change half.
            rows = self.vectors[start : start + num_rows].copy()
            tensor = to_tensor(rows, self.block_rows)
            self.tensors[start] = num_rows, tensor
        return tensor


class Index:
    """An index of faiss for inner products.

    Args:
        index: The index, empty.
        dimension: Of the embeddings.
    """

    def __init__(self, index: Any, dimension: int) -> None:
        for name in ("d", "ntotal", "metric_type", "add", "reset", "range_search"):
            if not hasattr(index, name):
                raise TypeError(
                    "`index` must be an index of faiss that has `range_search`. "
                    f"Received: index={index!r}, without `{name}`"
                )
        # 0 is faiss.METRIC_INNER_PRODUCT.
        found = index.d, index.ntotal, index.metric_type
        if found != (dimension, 0, 0):
            raise ValueError(
                f"`index` must be empty and for inner products of dimension {dimension}"
                ". Received: an index of dimension {}, with {} vectors, of metric type "
                "{}".format(*found)
            )
        self._index = index

    def add(self, vectors: np.ndarray) -> None:
        """Put unit vectors after those that it holds."""
        self._index.add(vectors)

    def replace(self, vectors: np.ndarray) -> None:
        """Hold these unit vectors and no others."""
        self._index.reset()
        if len(vectors):
            self._index.add(vectors)

    def near(self, queries: np.ndarray, cut: int, gallery: Gallery) -> Pairs:
        """Find the pairs up to a distance in steps, in the gallery that it holds."""
        if self._index.ntotal != gallery.size:
            raise RuntimeError(
                "`index` must be this matcher's alone. Received: an index of "
                f"{self._index.ntotal} vectors, of which {gallery.size} were added here"
            )
        rows = places = np.zeros(0, np.int64)
        if gallery.size:
            least = float(least_product(cut))
            ends, _, places = self._index.range_search(queries, least)
            rows = np.repeat(np.arange(len(queries)), np.diff(ends.astype(np.int64)))
        return gallery.matching(queries, cut, rows, places)


def least_product(cut: int) -> np.float32:
    """The least product of a pair that may match, whatever rounding has done to it."""
    return np.float32(1.0 - (cut + _MARGIN) / STEPS_PER_UNIT)
