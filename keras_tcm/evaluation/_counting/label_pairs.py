"""Pairs of samples with single labels: the positive and the negative ones, counted."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk.pair_walk import similarities, walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import (
    NeighborRanks,
    PositiveLists,
    Tally,
    count_type,
)
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps

# Distances that are held at a time, 4 bytes each; more of them are computed anew for
# each use.
MAX_HELD = 2**25
# Classes with more pairs than this go through the backend one by one.
_LARGE_CLASS_PAIRS = 2**18
_CHUNK_ROWS = 16384
_TILE_ROWS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class PositivePairs:
    """The (query, gallery) pairs inside each class."""

    space: PairSpace

    @functools.cached_property
    def num_pairs(self) -> int:
        """Number of pairs, each counted as often as it is met."""
        return int(self._per_query.sum())

    @property
    def is_held(self) -> bool:
        """Whether all distances fit in memory: they are then computed once."""
        return self.num_pairs <= MAX_HELD

    def lists(self) -> Iterator[PositiveLists]:
        """Distances of all pairs, of as many queries at a time as fit in memory."""
        if self.is_held:
            yield self._held
            return
        ends = np.cumsum(self._per_query)
        start = 0
        while start < len(ends):
            before = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, before + MAX_HELD, side="right"))
            stop = max(stop, start + 1)
            yield self._lists(start, stop)
            start = stop

    def histogram(self) -> Histogram:
        """Count all pairs by distance."""
        counts = np.zeros(NUM_STEPS, np.int64)
        for lists in self.lists():
            found = np.bincount(lists.steps)
            counts[: len(found)] += found
        return Histogram.of(counts, times_counted=self.space.times_met)

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count, for each class, the distances up to each of increasing cuts.

        Returns:
            Integers of shape `(classes, t)`; each pair counts as often as it is met.
        """
        num_bins = len(cuts) + 1
        queries = self.space.queries
        counts = np.zeros((len(queries.starts) - 1, num_bins), np.int64)
        for lists in self.lists():
            codes = queries.codes[lists.start : lists.stop]
            first, last = codes[0], codes[-1] + 1
            entry_codes = np.repeat(codes - first, np.diff(lists.offsets))
            keys = entry_codes * num_bins + np.searchsorted(cuts, lists.steps)
            counts[first:last] += np.bincount(
                keys, minlength=(last - first) * num_bins
            ).reshape(-1, num_bins)
        return counts[:, :-1].cumsum(axis=1)

    @functools.cached_property
    def _per_query(self) -> np.ndarray:
        """Number of positives of each query."""
        per_class = np.diff(self.space.gallery.starts) - self.space.num_own
        # A class without queries has no row that uses its (possibly negative) count.
        return per_class[self.space.queries.codes]

    @functools.cached_property
    def _held(self) -> PositiveLists:
        return self._lists(0, self.space.queries.size)

    def _lists(self, start: int, stop: int) -> PositiveLists:
        queries, gallery = self.space.queries, self.space.gallery
        offsets = np.concatenate([[0], np.cumsum(self._per_query[start:stop])])
        steps = np.empty(offsets[-1], np.int32)
        class_starts = queries.starts
        query_counts = np.diff(class_starts)
        is_large = query_counts * np.diff(gallery.starts) > _LARGE_CLASS_PAIRS
        position = start
        while position < stop:
            code = queries.codes[position]
            class_stop = class_starts[code + 1]
            if position > class_starts[code] or class_stop > stop or is_large[code]:
                end = min(class_stop, stop, position + _TILE_ROWS)
                values = self._rows_of_one_class(position, end)
            else:
                # As many whole classes as there are, up to the next large one.
                last = code + 1
                columns = gallery.starts
                while (
                    last < len(is_large)
                    and not is_large[last]
                    and class_starts[last + 1] <= min(stop, position + _CHUNK_ROWS)
                    and columns[last + 1] <= columns[code] + _CHUNK_ROWS
                ):
                    last += 1
                end = class_starts[last]
                values = self._whole_classes(code, last)
            first = offsets[position - start]
            steps[first : first + len(values)] = values
            position = end
        return PositiveLists(start, stop, offsets, steps)

    def _rows_of_one_class(self, start: int, stop: int) -> np.ndarray:
        queries, gallery, own = self.space.queries, self.space.gallery, self.space.own
        code = queries.codes[start]
        first, last = gallery.starts[code : code + 2]
        rows = to_tensor(queries.vectors[start:stop], _TILE_ROWS)
        steps = np.empty((stop - start, last - first), np.int32)
        for column in range(first, last, _TILE_ROWS):
            end = min(column + _TILE_ROWS, last)
            columns = to_tensor(gallery.vectors[column:end], _TILE_ROWS)
            products = similarities(rows, columns)[: stop - start, : end - column]
            steps[:, column - first : end - first] = to_steps(products)
        if own is not None:
            steps[np.arange(stop - start), own[start:stop] - first] = NUM_STEPS
        steps.sort(axis=1)
        return steps[:, : self._per_query[start]].ravel()

    def _whole_classes(self, first: int, last: int) -> np.ndarray:
        """Classes `first` to `last`, those of equal sizes at once."""
        queries, gallery, own = self.space.queries, self.space.gallery, self.space.own
        row_starts = queries.starts[first : last + 1]
        column_starts = gallery.starts[first : last + 1]
        rows = columns = queries.vectors[row_starts[0] : row_starts[-1]]
        if gallery is not queries:
            columns = gallery.vectors[column_starts[0] : column_starts[-1]]
        if own is not None:
            own = own[row_starts[0] : row_starts[-1]] - column_starts[0]
        row_starts = row_starts - row_starts[0]
        column_starts = column_starts - column_starts[0]
        num_rows, num_columns = np.diff(row_starts), np.diff(column_starts)
        per_query = num_columns - self.space.num_own
        sizes = num_rows * per_query
        starts = np.concatenate([[0], np.cumsum(sizes)])
        steps = np.empty(starts[-1], np.int32)
        keys = num_rows * (num_columns.max(initial=0) + 1) + num_columns
        for key in np.unique(keys[sizes > 0]):
            same = np.flatnonzero(keys == key)
            n, m = num_rows[same[0]], num_columns[same[0]]
            from_rows = row_starts[same][:, None] + np.arange(n)
            from_columns = column_starts[same][:, None] + np.arange(m)
            x, y = rows[from_rows], columns[from_columns]
            values = to_steps(np.matmul(x, y.transpose(0, 2, 1)))
            if own is not None:
                place = own[from_rows] - from_columns[:, :1]
                np.put_along_axis(values, place[:, :, None], NUM_STEPS, axis=2)
            values.sort(axis=2)
            kept = values[:, :, : per_query[same[0]]].reshape(len(same), -1)
            steps[starts[same][:, None] + np.arange(kept.shape[1])] = kept
        return steps


# Largest standard error that reading the classes' shares of negatives off bins may
# add, root mean square; otherwise a second walk counts exactly.
_MAX_ERROR = 4e-5
# Bins of the per-class counts: as many as the error asks for, since fewer are faster.
_BINS = (256, 4096)
_TABLE_BYTES = 2**27


@dataclasses.dataclass(frozen=True, eq=False)
class CountedNegatives:
    """Negative pairs that a walk has counted.

    Attributes:
        tally: The pairs by distance, the nearest of them, and class by class in bins;
            fold by fold, if it is a sample.
        num_pairs: Number of pairs at any distance.
    """

    tally: Tally
    num_pairs: int

    @functools.cached_property
    def histogram(self) -> Histogram:
        """The pairs by distance."""
        return Histogram.of(self.counts, self.num_pairs)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """The pairs of all folds at each distance in steps."""
        return self.tally.histogram.sum(axis=0, dtype=np.int64)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The pairs of all folds by class and bin."""
        return self.tally.table[:, :-1].sum(axis=0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class AllNegatives:
    """All pairs of different classes; `ranked` are the positive ones.

    A second walk is needed only where bins are too coarse: with few pairs, or many
    equal distances.
    """

    space: PairSpace
    sizes: ClassSizes
    ranked: PositivePairs
    plan: Plan

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return self.sizes.num_negative_pairs

    @property
    def num_per_class(self) -> np.ndarray:
        """Pairs of each eligible class, counted from each end that is a query."""
        return self.sizes.num_negatives

    def new_ranks(self) -> NeighborRanks | None:
        """Ranks that can be counted on the way, if all positives are held."""
        if not self.ranked.is_held:
            return None
        (lists,) = self.ranked.lists()
        return NeighborRanks(lists, max(self.plan.ks))

    def edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose the bins: increasing edges from `first` to `last`, in steps."""
        # The variance in the middle of a bin is a quarter of its pairs; the last bins
        # are some four times as full as the average.
        share = np.searchsorted(pilot, last, side="right") / len(pilot)
        variance = 4.0 * 0.25 * share * np.mean(1.0 / self.num_per_class)
        num_bins = np.clip(variance / _MAX_ERROR**2, *_BINS)
        num_rows = len(self.num_per_class) + 1
        row_bytes = self._table_type().itemsize * num_rows
        num_bins = min(int(num_bins), max(_TABLE_BYTES // row_bytes, 16))
        grid = np.linspace(first, last, num_bins).astype(np.int64)
        return np.union1d(grid, np.minimum(cuts, last))

    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs in bins that end at the edges, and ranks on the way."""
        queries, gallery = self.space.queries, self.space.gallery
        slots = self.sizes.slots[queries.codes]
        tally = Tally(
            edges,
            slots,
            # A pair counts for the class of its gallery sample if that is a query too.
            None if self.space.has_gallery else slots,
            len(self.num_per_class),
            self._table_type,
        )
        walk_pairs(queries.vectors, queries.codes, gallery, self.plan, tally, ranks)
        return CountedNegatives(tally, self.num_pairs)

    def accepted(self, counted: CountedNegatives, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each eligible class up to each of increasing cuts.

        Args:
            counted: What `count` returned, up to the cuts.
            cuts: Distances in steps.

        Returns:
            Counts of shape `(C, t)` of `num_per_class` pairs.
        """
        tally = counted.tally
        known = np.minimum(cuts, tally.edges[-1])
        accepted, error = tally.accepted(known, self.num_per_class)
        if error > _MAX_ERROR:
            tally = self.count(np.unique(known), ranks=None).tally
            accepted, _ = tally.accepted(known, self.num_per_class)
        # No pair is farther than the largest distance.
        return np.where(cuts == NUM_STEPS - 1, self.num_per_class[:, None], accepted)

    @property
    def _table_type(self) -> type:
        return count_type(self.num_per_class.max())


def retrieval(
    positives: PositivePairs, plan: Plan, ranks: NeighborRanks | None
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the retrieval of queries: see `NeighborRanks.retrieval`.

    Args:
        positives: The positive pairs of the queries.
        plan: How to go through their candidates.
        ranks: Ranks that have been counted on the way, or `None`.
    """
    if ranks is not None:
        return ranks.retrieval(plan.ks)
    queries, gallery = positives.space.queries, positives.space.gallery
    measured = []
    for lists in positives.lists():
        ranks = NeighborRanks(lists, max(plan.ks))
        walk_pairs(queries.vectors, queries.codes, gallery, plan, ranks=ranks)
        measured.append(ranks.retrieval(plan.ks))
    hits, average_precision = zip(*measured, strict=True)
    return np.concatenate(hits), np.concatenate(average_precision)
