"""What is done with the similarities of one tile of pairs (NumPy).

`tile_kernels_numba` does the same, faster.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Self

import numpy as np

from keras_tcm.evaluation.distribution import STEPS_PER_UNIT, to_steps
from keras_tcm.evaluation.neighbor_ranks import RANK_TIE_STEPS, NeighborRanks

# Below every similarity.
_NO_PAIR = np.float32(-2.0)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Pairs of consecutive queries with consecutive gallery samples.

    Attributes:
        similarities: Float32 array that holds at least the rows and columns of the
            tile.
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

    similarities: np.ndarray
    row_start: int
    num_rows: int
    column_start: int
    num_columns: int
    is_triangle: bool
    first_same: np.ndarray
    last_same: np.ndarray

    def negatives(self) -> np.ndarray:
        """Similarities, with a value below all of them where there is no negative."""
        values = self.similarities[: self.num_rows, : self.num_columns]
        touched = np.flatnonzero(self.first_same < self.last_same)
        if self.is_triangle or len(touched):
            values = values.copy()
        if self.is_triangle:
            values[np.tri(*values.shape, dtype=np.bool_)] = _NO_PAIR
        for row in touched:
            values[row, self.first_same[row] : self.last_same[row]] = _NO_PAIR
        return values


class NegativeCounts:
    """Counts of the nearest negative pairs, in all and by class.

    Args:
        edges: Increasing distances in steps. Pairs up to the last are counted; class
            by class, in bins that end at an edge (included).
        row_slots: Row of the table for each query; the last row takes queries that
            are not to be counted by class.
        column_slots: The same for gallery samples, or `None` not to count them.
        num_slots: Rows of the table but the last.
        table_type: Integer type of the table.
        histogram_type: Integer type of the histogram. Defaults to int64.

    Attributes:
        edges: See above.
        histogram: Pairs at each distance in steps, up to the last edge.
        table: Pairs by slot and bin.
        bin_of_step: The bin of each distance.
        cut: Smallest similarity of a pair that may count.
    """

    def __init__(
        self,
        edges: np.ndarray,
        row_slots: np.ndarray | None,
        column_slots: np.ndarray | None,
        num_slots: int,
        table_type: type,
        histogram_type: type = np.int64,
    ) -> None:
        self.edges = edges
        self.row_slots, self.column_slots = row_slots, column_slots
        self._table_type = table_type
        self.histogram: np.ndarray = np.zeros(edges[-1] + 1, histogram_type)
        self.table: np.ndarray = np.zeros((num_slots + 1, len(edges)), table_type)
        # Small, so that the lookup of each pair finds it in the cache.
        kind = np.promote_types(np.uint16, np.min_scalar_type(len(edges)))
        number = np.arange(len(edges), dtype=kind)
        self.bin_of_step = np.repeat(number, np.diff(edges, prepend=-1))
        self.cut = np.float32(1.0 - (edges[-1] + 0.75) / STEPS_PER_UNIT)

    def of_rows(self, start: int) -> Self:
        """These counts: all rows add to them."""
        return self

    def empty_copy(self) -> Self:
        """Counts of other pairs in the same bins."""
        other = copy.copy(self)
        other.histogram = np.zeros_like(self.histogram)
        other.table = np.zeros_like(self.table)
        return other

    def part(self, rows: range, columns: range) -> Callable[[], "NegativeCounts"]:
        """Return what makes counts in the same bins for a part of the pairs.

        Args:
            rows: The queries of the part, which counts them from the first of them.
            columns: Its gallery samples, likewise.
        """
        slots = self._slots_of(rows, columns)
        row_slots, column_slots = (
            None
            if some is None
            else np.searchsorted(slots, some[ends.start : ends.stop]).astype(np.int32)
            for some, ends in ((self.row_slots, rows), (self.column_slots, columns))
        )
        return functools.partial(
            NegativeCounts,
            self.edges,
            row_slots,
            column_slots,
            len(slots),
            self._table_type,
            count_type(len(rows) * len(columns)),
        )

    def results(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What has been counted: histogram and table."""
        return [(self.histogram, self.table[:-1])]

    def add(
        self,
        rows: range,
        columns: range,
        results: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Add the `results` of what `part` made for the same pairs."""
        ((histogram, table),) = results
        self.histogram += histogram.astype(self.histogram.dtype)
        self.table[self._slots_of(rows, columns)] += table

    def _slots_of(self, rows: range, columns: range) -> np.ndarray:
        """Rows of the table to which some pairs add, increasing."""
        touched = [
            slots[ends.start : ends.stop]
            for slots, ends in ((self.row_slots, rows), (self.column_slots, columns))
            if slots is not None
        ]
        # The last row takes what is not to be counted.
        found = np.unique(np.concatenate(touched))
        return found[found < len(self.table) - 1]

    def accepted(self, cuts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, float]:
        """Count the pairs of each slot up to each cut, as `interpolate` does.

        Args:
            cuts: Distances in steps up to the last edge, shape `(t,)`.
            sizes: Pairs of each slot at any distance.

        Returns:
            Counts of shape `(slots, t)`, and their standard error as a share of `sizes`
            at the least certain cut, root mean square over slots: 0 if all cuts are
            edges, infinity if the pairs in the cut bins are not spread evenly.
        """
        table = self.table[:-1]
        bins, fraction = _places(self.edges, cuts)
        upper = self.edges[bins]
        lower = np.concatenate([[-1], self.edges])[bins]
        spread = fraction * (1.0 - fraction)
        up_to = np.concatenate([[0], np.cumsum(self.histogram)])
        inside = up_to[upper + 1] - up_to[lower + 1]
        surplus = up_to[cuts + 1] - up_to[lower + 1] - fraction * inside
        is_even = (np.abs(surplus) <= 6.0 * np.sqrt(inside * spread) + 6.0).all()

        variance = table[:, bins] * spread / np.square(sizes[:, None], dtype=np.float64)
        error = np.sqrt(variance.mean(axis=0).max()) if is_even else np.inf
        return interpolate(table, self.edges, cuts), float(error)


def interpolate(table: np.ndarray, edges: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Count the pairs of each row of a table of bins up to each cut.

    A cut inside a bin takes its share of the bin's pairs, as if they were spread
    evenly.

    Args:
        table: Pairs by row and bin.
        edges: Last distance in steps of each bin.
        cuts: Distances in steps up to the last edge, shape `(t,)`.

    Returns:
        Float64 counts of shape `(rows, t)`.
    """
    bins, fraction = _places(edges, cuts)
    # Whole bins before each of the bins asked for, and those themselves.
    starts = np.unique(np.append(bins, 0))
    between = np.add.reduceat(table, starts, axis=1, dtype=np.int64)
    before = np.cumsum(between, axis=1) - between
    return before[:, np.searchsorted(starts, bins)] + fraction * table[:, bins]


def _places(edges: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each cut, and the share of the bin that it takes."""
    bins = np.searchsorted(edges, cuts)
    lower = np.concatenate([[-1], edges])[bins]
    return bins, (cuts - lower) / (edges[bins] - lower)


def count_type(most: int) -> type:
    """Integer type that holds counts up to `most`."""
    # Not uint64: NumPy makes floats of it beside int64.
    return np.uint32 if most <= np.iinfo(np.uint32).max else np.int64


def count(tile: Tile, counts: NegativeCounts) -> None:
    """Count the negative pairs of a tile."""
    values = tile.negatives()
    near = np.flatnonzero(values >= counts.cut)
    steps = to_steps(values.ravel()[near])
    is_counted = steps < len(counts.histogram)
    near, steps = near[is_counted], steps[is_counted]
    found = np.bincount(steps)
    counts.histogram[: len(found)] += found.astype(counts.histogram.dtype)
    rows, columns = np.divmod(near, tile.num_columns)
    bins = counts.bin_of_step[steps].astype(np.int64)
    for slots, start, ends in (
        (counts.row_slots, tile.row_start, rows),
        (counts.column_slots, tile.column_start, columns),
    ):
        if slots is not None:
            _count_bins(counts.table, slots[start + ends], bins)


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
        part = values[:, start : start + width]
        if rows is not None:
            first = tile.row_start - rows.start
            reach = rows.reach[first : first + tile.num_rows]
            found, other = np.nonzero(part >= reach[:, None])
            _rank(rows, first, tile.num_rows, found, part[found, other])
        if columns is not None:
            first = tile.column_start + start - columns.start
            reach = columns.reach[first : first + part.shape[1]]
            other, found = np.nonzero(part >= reach)
            _rank(columns, first, part.shape[1], found, part[other, found])
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
