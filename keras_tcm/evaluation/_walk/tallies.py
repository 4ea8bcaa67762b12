"""What a walk adds to: counts of negative pairs, and ranks of positive ones."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from keras_tcm.evaluation.distances import RANK_TIE_STEPS, STEPS_PER_UNIT

# Rows of a table that are interpolated at a time.
_INTERPOLATED_ROWS = 4096


class Tally:
    """Counts of the nearest negative pairs, in all and by class.

    Args:
        edges: Increasing distances in steps. Pairs up to the last are counted; class
            by class, in bins that end at an edge (included).
        row_slots: Row of the table for each query; the last row takes queries that
            are not to be counted by class. `None` not to count them.
        column_slots: The same for gallery samples.
        num_slots: Rows of the table but the last.
        table_type: Integer type of the table.
        histogram_type: Integer type of the histogram. Defaults to int64.
        fold_size: Queries in each fold, which are consecutive and counted apart. A tile
            lies inside a fold. Defaults to `None`: one fold of all.
        num_folds: Number of folds. Defaults to 1.

    Attributes:
        edges: See above.
        histogram: Pairs of each fold at each distance in steps, up to the last edge.
        table: Pairs of each fold by slot and bin.
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
        fold_size: int | None = None,
        num_folds: int = 1,
    ) -> None:
        self.edges = edges
        self.row_slots, self.column_slots = row_slots, column_slots
        self._fold_size = fold_size
        self.histogram: np.ndarray = np.zeros(
            (num_folds, edges[-1] + 1), histogram_type
        )
        self.table: np.ndarray = np.zeros(
            (num_folds, num_slots + 1, len(edges)), table_type
        )
        # Small, so that the lookup of each pair finds it in the cache.
        kind = np.promote_types(np.uint16, np.min_scalar_type(len(edges)))
        number = np.arange(len(edges), dtype=kind)
        self.bin_of_step = np.repeat(number, np.diff(edges, prepend=-1))
        self.cut = np.float32(1.0 - (edges[-1] + 0.75) / STEPS_PER_UNIT)

    def of_rows(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Histogram and table to which the tile with this first row adds."""
        fold = self.fold_of(start)
        return self.histogram[fold], self.table[fold]

    def fold_of(self, start: int) -> int:
        """The fold of the tile with this first row."""
        return self._folds(range(start, start + 1)).start

    def part(self, rows: range, columns: range) -> "Callable[[], Tally]":
        """Return what makes a tally in the same bins for a part of the pairs.

        The part counts rows and columns from the first of them. It has whole folds.
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
            self.table.dtype.type,
            count_type(len(rows) * len(columns)),
            self._fold_size,
            len(self._folds(rows)),
        )

    def add(
        self, rows: range, columns: range, histogram: np.ndarray, table: np.ndarray
    ) -> None:
        """Add histogram and table of what `part` made for the same pairs."""
        folds = self._folds(rows)
        some = slice(folds.start, folds.stop)
        self.histogram[some] += histogram.astype(self.histogram.dtype)
        self.table[some, self._slots_of(rows, columns)] += table[:, :-1]

    def _folds(self, rows: range) -> range:
        """The folds of some queries."""
        if self._fold_size is None:
            return range(1)
        return range(
            rows.start // self._fold_size, math.ceil(rows.stop / self._fold_size)
        )

    def _slots_of(self, rows: range, columns: range) -> np.ndarray:
        """Rows of the table to which some pairs add, increasing."""
        touched = [
            slots[ends.start : ends.stop]
            for slots, ends in ((self.row_slots, rows), (self.column_slots, columns))
            if slots is not None
        ]
        # The last row takes what is not to be counted.
        found = np.unique(np.concatenate(touched))
        return found[found < self.table.shape[1] - 1]

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each slot in the first fold up to each cut.

        Args:
            cuts: Distances in steps up to the last edge, shape `(t,)`.

        Returns:
            Counts of shape `(slots, t)`, as `interpolate` makes them.
        """
        return interpolate(self.table[0, :-1], self.edges, cuts)

    def error_at(self, cuts: np.ndarray, sizes: np.ndarray) -> float:
        """Standard error of `accepted`, as a share of the pairs of each slot.

        Args:
            cuts: Distances in steps up to the last edge, shape `(t,)`.
            sizes: Pairs of each of the first slots at any distance: those for which the
                error is told.

        Returns:
            That at the least certain cut, root mean square over slots: 0 if all cuts
            are edges, infinity if the pairs in the cut bins are not spread evenly.
        """
        histogram, table = self.histogram[0], self.table[0, :-1]
        bins, fraction = _places(self.edges, cuts)
        upper = self.edges[bins]
        lower = np.concatenate([[-1], self.edges])[bins]
        spread = fraction * (1.0 - fraction)
        up_to = np.concatenate([[0], np.cumsum(histogram)])
        inside = up_to[upper + 1] - up_to[lower + 1]
        surplus = up_to[cuts + 1] - up_to[lower + 1] - fraction * inside
        is_even = (np.abs(surplus) <= 6.0 * np.sqrt(inside * spread) + 6.0).all()

        told = table[: len(sizes), bins]
        variance = told * spread / np.square(sizes[:, None], dtype=np.float64)
        return float(np.sqrt(variance.mean(axis=0).max()) if is_even else np.inf)


def interpolate(table: np.ndarray, edges: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Count the pairs of each row of a table of bins up to each cut.

    A cut inside a bin, which ends at its edge, takes its share of the bin's pairs, as
    if they were spread evenly.

    Returns:
        Float64 counts of shape `(rows, t)`.
    """
    bins, fraction = _places(edges, cuts)
    # Whole bins before each of the bins asked for, and those themselves.
    starts = np.unique(np.append(bins, 0))
    places = np.searchsorted(starts, bins)
    counts = np.empty((len(table), len(cuts)))
    # Some rows at a time: there may be as many as classes in a large gallery.
    for first in range(0, len(table), _INTERPOLATED_ROWS):
        some = table[first : first + _INTERPOLATED_ROWS]
        between = np.add.reduceat(some, starts, axis=1, dtype=np.int64)
        before = np.cumsum(between, axis=1) - between
        found = before[:, places] + fraction * some[:, bins]
        counts[first : first + len(some)] = found
    return counts


def _places(edges: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each cut, and the share of the bin that it takes."""
    bins = np.searchsorted(edges, cuts)
    lower = np.concatenate([[-1], edges])[bins]
    return bins, (cuts - lower) / (edges[bins] - lower)


def count_type(most: int) -> type:
    """Integer type that holds counts up to `most`."""
    # Not uint64: NumPy makes floats of it beside int64.
    return np.uint32 if most <= np.iinfo(np.uint32).max else np.int64


@dataclasses.dataclass(frozen=True)
class PositiveLists:
    """The distances of the positives of consecutive queries, a list for each.

    Attributes:
        start: First query.
        stop: Query after the last.
        offsets: Where each query's distances start, and their number: shape
            `(stop - start + 1,)`.
        steps: Distances in steps, increasing for each query; int32.
    """

    start: int
    stop: int
    offsets: np.ndarray
    steps: np.ndarray

    def part(self, first: int, last: int) -> "PositiveLists":
        """Some consecutive queries alone, counted from the first of them."""
        offsets = self.offsets[first : last + 1]
        steps = self.steps[offsets[0] : offsets[-1]]
        return PositiveLists(0, last - first, offsets - offsets[0], steps)

    def reordered(self, order: np.ndarray) -> "PositiveLists":
        """The same queries in another order."""
        counts = np.diff(self.offsets)[order]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shift = np.repeat(self.offsets[:-1][order] - offsets[:-1], counts)
        steps = self.steps[np.arange(len(self.steps)) + shift]
        return PositiveLists(self.start, self.stop, offsets, steps)


class NeighborRanks:
    """For each positive of some queries, how many negatives are nearer.

    Only the ranks that matter are kept: a positive is given up once its rank
    exceeds both the number of positives and the largest k. What is still sought
    soon lies within a small reach, so that nearly all pairs are passed over.

    Args:
        lists: The positives of the queries, with attributes of the same names.
        largest_k: Ranks up to it are wanted.

    Attributes:
        positives: The `steps` of the lists.
        nearer: Number of negatives between each positive and the one before it.
        live: Positives of each query that have not been given up.
        seen: Negatives counted for the live positives of each query.
        limit: Largest rank that matters to each query.
        reach: Smallest similarity at which a negative of each query can matter.
    """

    def __init__(self, lists: PositiveLists, largest_k: int) -> None:
        self.start, self.stop = lists.start, lists.stop
        self.largest_k = largest_k
        self._lists = lists
        self.positives, self.offsets = lists.steps, lists.offsets
        self.nearer = np.zeros(len(lists.steps), np.int32)
        self.live = np.diff(lists.offsets).astype(np.int32)
        self.seen = np.zeros(len(self.live), np.int32)
        self.limit = np.maximum(self.live, largest_k).astype(np.int32)
        self.reach = np.empty(len(self.live), np.float32)
        self.set_reach(np.arange(len(self.live)))

    def set_reach(self, queries: np.ndarray) -> None:
        """Follow the farthest live positive of some queries."""
        live = self.live[queries]
        last = np.maximum(self.offsets[queries] + live - 1, 0)
        farthest = np.full(len(queries), -np.inf)
        if len(self.positives):
            farthest = np.where(live > 0, self.positives[last], -np.inf)
        # Up to a quarter step too far; the steps themselves decide.
        steps = farthest + RANK_TIE_STEPS + 0.75
        self.reach[queries] = 1.0 - steps / STEPS_PER_UNIT

    def positives_of(self, queries: range) -> PositiveLists:
        """The positives of some of the queries, which are then the first ones."""
        return self._lists.part(queries.start - self.start, queries.stop - self.start)

    def add(self, queries: range, nearer: np.ndarray, live: np.ndarray) -> None:
        """Add `nearer` and `live` of some queries among other candidates.

        A positive that one of the parts has given up is given up. Before it, all
        negatives have been counted in every part.
        """
        first, last = queries.start - self.start, queries.stop - self.start
        self.nearer[self.offsets[first] : self.offsets[last]] += nearer
        np.minimum(self.live[first:last], live, out=self.live[first:last])

    def ranks(self) -> np.ndarray:
        """Rank of every positive, from 1; those given up have the largest int64."""
        counts = np.diff(self.offsets)
        number = np.arange(len(self.positives)) - np.repeat(self.offsets[:-1], counts)
        cumulative = np.cumsum(self.nearer, dtype=np.int64)
        before = np.concatenate([[0], cumulative])[self.offsets[:-1]]
        ranks = number + 1 + cumulative - np.repeat(before, counts)
        ranks[number >= np.repeat(self.live, counts)] = np.iinfo(np.int64).max
        return ranks

    def retrieval(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of each query that has a positive.

        Returns:
            Whether there is a hit among the k nearest, shape `(queries, len(ks))`, and
            the average precision at R, shape `(queries,)`.
        """
        counts = np.diff(self.offsets)
        has_positive = counts > 0
        counts, starts = counts[has_positive], self.offsets[:-1][has_positive]
        ranks = self.ranks()
        hits = ranks[starts][:, None] <= np.array(ks)
        number = np.arange(len(ranks)) - np.repeat(starts, counts) + 1
        precision = np.where(ranks <= np.repeat(counts, counts), number / ranks, 0.0)
        average = np.add.reduceat(precision, starts) if len(starts) else precision
        return hits, average / counts
