"""Pairs of samples with single labels: the positive and the negative ones, counted."""

import abc
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._walk.pair_walk import steps_between, walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import (
    NeighborRanks,
    PositiveLists,
    Tally,
    count_type,
)
from keras_tcm.evaluation.criteria import Criteria
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps

# Distances that are held at a time, 4 bytes each; more of them are computed anew for
# each use.
MAX_HELD = 2**25
# Classes with more pairs than this go through the backend one by one.
_LARGE_CLASS_PAIRS = 2**18
_CHUNK_ROWS = 16384
_TILE_ROWS = 1024
# Largest standard error that reading the classes' shares of negatives off bins may
# add, root mean square; otherwise a second walk counts exactly.
_MAX_ERROR = 4e-5
# Bins of the per-class counts: as many as the error asks for, since fewer are faster.
_BINS = (256, 4096)
_TABLE_BYTES = 2**27
# Queries and gallery samples of the pilot, each.
_PILOT_ROWS = 1024


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
        rows = queries.vectors[start:stop]
        steps = np.empty((stop - start, last - first), np.int32)
        for column in range(first, last, _TILE_ROWS):
            end = min(column + _TILE_ROWS, last)
            tile = steps_between(rows, gallery.vectors[column:end], _TILE_ROWS)
            steps[:, column - first : end - first] = tile
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
        if gallery.vectors is not queries.vectors:
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
class Negatives(abc.ABC):
    """Pairs of different classes.

    Attributes:
        space: Which pairs there are.
        sizes: Sizes of the classes.
        plan: How to go through the pairs.
        ranked: The positive pairs of the queries whose neighbours are ranked.
    """

    space: PairSpace
    sizes: ClassSizes
    plan: Plan
    ranked: PositivePairs

    @abc.abstractmethod
    def edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose the bins: increasing edges from `first` to `last`, in steps."""

    @abc.abstractmethod
    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs in bins that end at the edges, and ranks on the way."""

    @abc.abstractmethod
    def accepted(
        self, counted: CountedNegatives, cuts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Count the pairs of each class up to each of increasing cuts.

        Args:
            counted: What `count` returned, up to the cuts.
            cuts: Distances in steps.

        Returns:
            Counts of shape `(C, t)` for the eligible classes, and of shape `(K, t)` for
            the classes of a gallery: `None` without one, or if a sample is counted.
        """

    def count_far_enough(
        self, criteria: Criteria, positive: Histogram, ranks: NeighborRanks | None
    ) -> CountedNegatives:
        """Count the pairs as far as it matters, and rank neighbours on the way.

        Which distances matter is only known once the pairs have been counted. So a
        small pilot first tells about how far the counts must go, at least to where FAR
        exceeds FRR; a walk then counts the pairs up to there, exactly in all and in
        bins class by class, and it is checked that they went far enough.
        """
        pilot = _pilot(self.space)
        shares, cuts = criteria.shares, criteria.known_cuts(positive)
        exact_cuts = criteria.exact_cuts(pilot)
        asked = (*shares, _crossing_share(pilot, positive))
        first = min(_quantile(pilot, 0.5 * min(asked)), NUM_STEPS - 2)
        share = 1.25 * max(asked) + 0.002
        while True:
            last = max(_quantile(pilot, share), first + 1, *cuts)
            edges = np.union1d(self.edges(pilot, first, last, cuts), exact_cuts)
            counted = self.count(edges, ranks)
            # What the pilot did not foresee is counted anew, farther.
            if last == NUM_STEPS - 1 or _is_enough(
                last, shares, counted.histogram, positive
            ):
                return counted
            share, ranks = 2.0 * share, None


class AllNegatives(Negatives):
    """All of them, with all positive pairs beside.

    A second walk is needed only where bins are too coarse: with few pairs, or many
    equal distances.
    """

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
        """Choose bins as fine as the error asks for."""
        # The variance in the middle of a bin is a quarter of its pairs; the last bins
        # are some four times as full as the average.
        share = np.searchsorted(pilot, last, side="right") / len(pilot)
        variance = 4.0 * 0.25 * share * np.mean(1.0 / self.num_per_class)
        num_bins = np.clip(variance / _MAX_ERROR**2, *_BINS)
        row_bytes = self._table_type().itemsize * (len(self._num_per_slot) + 1)
        num_bins = min(int(num_bins), max(_TABLE_BYTES // row_bytes, 16))
        grid = np.linspace(first, last, num_bins).astype(np.int64)
        return np.union1d(grid, np.minimum(cuts, last))

    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs in bins that end at the edges, and ranks on the way."""
        queries, gallery = self.space.queries, self.space.gallery
        sizes, num_slots = self.sizes, len(self._num_per_slot)
        num_queries = len(self.num_per_class)
        row_slots = column_slots = sizes.slots
        if self.space.has_gallery:
            column_slots = np.int32(num_queries) + sizes.gallery_slots
            # The queries of a class that is not eligible count with its gallery
            # samples; if it has none, theirs is the slot after the last.
            row_slots = np.where(row_slots < num_queries, row_slots, column_slots)
        tally = Tally(
            edges,
            row_slots[queries.codes],
            column_slots[gallery.codes],
            num_slots,
            self._table_type,
        )
        walk_pairs(queries.vectors, queries.codes, gallery, self.plan, tally, ranks)
        return CountedNegatives(tally, self.num_pairs)

    def accepted(
        self, counted: CountedNegatives, cuts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Count the pairs of each class up to each of increasing cuts."""
        tally = counted.tally
        known = np.minimum(cuts, tally.edges[-1])
        if tally.error_at(known, self.num_per_class) > _MAX_ERROR:
            tally = self.count(np.unique(known), ranks=None).tally
        accepted = tally.accepted(known)
        # No pair is farther than the largest distance.
        accepted = np.where(
            cuts == NUM_STEPS - 1, self._num_per_slot[:, None], accepted
        )
        num_queries = len(self.num_per_class)
        return accepted[:num_queries], (
            accepted[num_queries:] if self.space.has_gallery else None
        )

    @property
    def _num_per_slot(self) -> np.ndarray:
        """Pairs of each eligible class, then those of each class of a gallery."""
        if not self.space.has_gallery:
            return self.num_per_class
        return np.concatenate([self.num_per_class, self.sizes.gallery_negatives])

    @property
    def _table_type(self) -> type:
        return count_type(self._num_per_slot.max())


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


def _is_enough(
    last: int, shares: tuple[float, ...], negative: Histogram, positive: Histogram
) -> bool:
    """Whether counts up to `last` hold what will be asked for."""
    far = negative.share_up_to(last)
    frr = 1.0 - positive.share_up_to(last)
    # One more than a quantile needs: an operating point asks for the next pair.
    indices = [negative.quantile_index(share)[0] + 2 for share in shares]
    most = min(max(indices, default=0), negative.size - 1)
    return bool(far >= frr) and negative.has(most, last)


def _pilot(space: PairSpace) -> np.ndarray:
    """Distances in steps of some negative pairs, increasing."""
    queries, gallery = space.queries, space.gallery
    rows, columns = _spread(queries.size), _spread(gallery.size)
    steps = steps_between(queries.vectors[rows], gallery.vectors[columns], _PILOT_ROWS)
    is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
    return np.sort(steps[is_negative])


def _spread(size: int) -> np.ndarray:
    """Places spread evenly, so that all classes are among them if possible."""
    return np.unique(np.linspace(0, size - 1, _PILOT_ROWS).astype(np.int64))


def _quantile(pilot: np.ndarray, share: float) -> int:
    if share >= 1.0:
        return NUM_STEPS - 1
    return int(pilot[int(share * len(pilot))])


def _crossing_share(pilot: np.ndarray, positive: Histogram) -> float:
    """Share of the pilot up to where FAR reaches FRR."""
    far = np.arange(1, len(pilot) + 1) / len(pilot)
    frr = 1.0 - positive.share_up_to(pilot)
    return float(far[np.argmax(far >= frr)])
