"""What is done with the similarities of one tile of pairs (NumPy).

`kernels_numba` does the same, faster.
"""

import dataclasses
from typing import Any

import numpy as np

from keras_tcm.evaluation._walk.tallies import NeighborRanks, Tally
from keras_tcm.evaluation.distances import RANK_TIE_STEPS, to_steps

# Below every similarity.
_NO_PAIR = np.float32(-2.0)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Pairs of consecutive queries with consecutive gallery samples.

    Attributes:
        similarities: Float32 array that holds at least the rows and columns of the
            tile; before it is counted on the host, a tensor.
        row_start: First query.
        num_rows: Number of queries.
        column_start: First gallery sample.
        num_columns: Number of gallery samples.
        is_triangle: Whether only the pairs above the diagonal count: both ends are
            the same samples.
        first_same: First column of each row with a sample of its class, in
            `[0, num_columns]`; shape `(num_rows,)`.
        last_same: Column after the last such one.
    """

    similarities: Any
    row_start: int
    num_rows: int
    column_start: int
    num_columns: int
    is_triangle: bool
    first_same: np.ndarray
    last_same: np.ndarray

    def negatives(self) -> np.ndarray:
        """Similarities, with a value below all of them where there is no negative."""
        values: np.ndarray = self.similarities[: self.num_rows, : self.num_columns]
        touched = np.flatnonzero(self.first_same < self.last_same)
        if self.is_triangle or len(touched):
            values = values.copy()
        if self.is_triangle:
            values[np.tri(*values.shape, dtype=np.bool_)] = _NO_PAIR
        for row in touched:
            values[row, self.first_same[row] : self.last_same[row]] = _NO_PAIR
        return values


def count(tile: Tile, tally: Tally) -> None:
    """Count the negative pairs of a tile."""
    histogram, table = tally.of_rows(tile.row_start)
    values = tile.negatives()
    near = np.flatnonzero(values >= tally.cut)
    steps = to_steps(values.ravel()[near])
    is_counted = steps < len(histogram)
    near, steps = near[is_counted], steps[is_counted]
    found = np.bincount(steps)
    histogram[: len(found)] += found.astype(histogram.dtype)
    rows, columns = np.divmod(near, tile.num_columns)
    bins = tally.bin_of_step[steps].astype(np.int64)
    for slots, start, ends in (
        (tally.row_slots, tile.row_start, rows),
        (tally.column_slots, tile.column_start, columns),
    ):
        if slots is not None:
            _count_bins(table, slots[start + ends], bins)


def _count_bins(table: np.ndarray, slots: np.ndarray, bins: np.ndarray) -> None:
    is_counted = slots < len(table) - 1
    if not is_counted.all():
        slots, bins = slots[is_counted], bins[is_counted]
    if not len(slots):
        return
    # Integers of Python: the products below exceed the type of the slots.
    first, last = int(slots.min()), int(slots.max()) + 1
    num_bins = table.shape[1]
    keys = (slots - first).astype(np.int64) * num_bins + bins
    found = np.bincount(keys, minlength=(last - first) * num_bins)
    table[first:last] += found.reshape(-1, num_bins).astype(table.dtype)


def rank(tile: Tile, rows: NeighborRanks | None, columns: NeighborRanks | None) -> None:
    """Count the negative pairs of a tile that are nearer than a positive.

    Args:
        tile: The pairs.
        rows: Ranks of the queries, or `None` to leave them out.
        columns: Ranks of the gallery samples as queries, or `None`.
    """
    values = tile.negatives()
    # The first negatives of a query shorten its reach: few at first, then more.
    width = 32 if tile.is_triangle else tile.num_columns
    start = 0
    while start < tile.num_columns:
        some = values[:, start : start + width]
        if rows is not None:
            first = tile.row_start - rows.start
            reach = rows.reach[first : first + tile.num_rows]
            found, other = np.nonzero(some >= reach[:, None])
            _rank(rows, first, tile.num_rows, found, some[found, other])
        if columns is not None:
            first = tile.column_start + start - columns.start
            reach = columns.reach[first : first + some.shape[1]]
            other, found = np.nonzero(some >= reach)
            _rank(columns, first, some.shape[1], found, some[other, found])
        start += width
        width *= 2


def _rank(
    ranks: NeighborRanks,
    first: int,
    num_queries: int,
    found: np.ndarray,
    values: np.ndarray,
) -> None:
    """Count negatives of queries `first + found`."""
    if not len(found):
        return
    queries = slice(first, first + num_queries)
    offsets = ranks.offsets[first : first + num_queries + 1]
    positives = ranks.positives[offsets[0] : offsets[-1]]
    # One search in all lists at once: the query makes the high part of the key.
    number: np.ndarray = np.arange(num_queries, dtype=np.int64)
    high = np.repeat(number << 24, np.diff(offsets))
    wanted = np.maximum(to_steps(values) - RANK_TIE_STEPS, 0).astype(np.int64)
    places = np.searchsorted(high + positives, (found << 24) + wanted)
    last_live = offsets[:-1] + ranks.live[queries] - offsets[0]
    matters = places < last_live[found]
    places, found = places[matters], found[matters]
    counted = np.bincount(places, minlength=len(positives)).astype(np.int32)
    ranks.nearer[offsets[0] : offsets[-1]] += counted
    ranks.seen[queries] += np.bincount(found, minlength=num_queries).astype(np.int32)

    changed = first + np.unique(found)
    beyond = changed
    while len(beyond):
        live, seen = ranks.live[beyond], ranks.seen[beyond]
        beyond = beyond[(live > 0) & (live + seen > ranks.limit[beyond])]
        ranks.live[beyond] -= 1
        ranks.seen[beyond] -= ranks.nearer[ranks.offsets[beyond] + ranks.live[beyond]]
    ranks.set_reach(changed)
