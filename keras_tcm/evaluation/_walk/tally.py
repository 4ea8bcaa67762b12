"""Tallies of negative pairs that a walk adds to: in one, or apart for folds of queries.

A tally counts pairs by distance in all, and class by class in bins.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Protocol, Self

import numpy as np

from keras_tcm.evaluation.distances import STEPS_PER_UNIT

# A histogram and a table.
Counted = tuple[np.ndarray, np.ndarray]


class AnyTally(Protocol):
    """What a walk over pairs adds to, all at once or in parts.

    `Tally` describes the methods.
    """

    def of_rows(self, start: int) -> "Tally":
        """The tally to which the tile with this first row adds."""

    def part(self, rows: range, columns: range) -> "Callable[[], AnyTally]":
        """Return what makes a tally in the same bins for a part of the pairs."""

    def results(self) -> list[Counted]:
        """What has been counted: histogram and table of each fold."""

    def add(self, rows: range, columns: range, results: list[Counted]) -> None:
        """Add the `results` of what `part` made for the same pairs."""


class Tally:
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
        """This tally: all rows add to it."""
        return self

    def empty_copy(self) -> Self:
        """A tally of other pairs in the same bins."""
        other = copy.copy(self)
        other.histogram = np.zeros_like(self.histogram)
        other.table = np.zeros_like(self.table)
        return other

    def part(self, rows: range, columns: range) -> Callable[[], "Tally"]:
        """Return what makes a tally in the same bins for a part of the pairs.

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
            Tally,
            self.edges,
            row_slots,
            column_slots,
            len(slots),
            self._table_type,
            count_type(len(rows) * len(columns)),
        )

    def results(self) -> list[Counted]:
        """What has been counted: histogram and table."""
        return [(self.histogram, self.table[:-1])]

    def add(self, rows: range, columns: range, results: list[Counted]) -> None:
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


class FoldTallies:
    """Tallies kept apart for folds of consecutive queries.

    Args:
        make: Makes the tally of a fold, which must not count by query.
        num_folds: Number of folds.
        fold_size: Queries in each. A tile lies inside a fold.

    Attributes:
        folds: The tally of each fold.
    """

    def __init__(
        self, make: Callable[[], Tally], num_folds: int, fold_size: int
    ) -> None:
        first = make()
        self.folds = [first, *(first.empty_copy() for _ in range(num_folds - 1))]
        self._fold_size = fold_size

    def of_rows(self, start: int) -> Tally:
        """The tally to which the tile with this first row adds."""
        return self.folds[start // self._fold_size]

    def part(self, rows: range, columns: range) -> "Callable[[], FoldTallies]":
        """Return what makes tallies in the same bins for some whole folds."""
        make = self.folds[0].part(rows, columns)
        num_folds = math.ceil(len(rows) / self._fold_size)
        return functools.partial(FoldTallies, make, num_folds, self._fold_size)

    def results(self) -> list[Counted]:
        """What has been counted: histogram and table of each fold."""
        return [result for fold in self.folds for result in fold.results()]

    def add(self, rows: range, columns: range, results: list[Counted]) -> None:
        """Add the `results` of what `part` made for the same pairs."""
        first = rows.start // self._fold_size
        for number, result in enumerate(results, start=first):
            self.folds[number].add(rows, columns, [result])


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
