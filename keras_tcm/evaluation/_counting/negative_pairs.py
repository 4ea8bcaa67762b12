"""Counts of all negative pairs, from one walk over them if possible."""

import dataclasses
import functools

import numpy as np

from keras_tcm.evaluation._counting.positive_pairs import PositivePairs
from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._walk.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tally import Tally, count_type
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram

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
    """All pairs of different classes.

    A second walk is needed only where bins are too coarse: with few pairs, or many
    equal distances.

    Attributes:
        space: Which pairs there are.
        sizes: Sizes of the classes.
        ranked: The positive pairs.
        plan: How to go through the pairs.
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
        """Count the pairs.

        Args:
            edges: Increasing distances in steps, at which the bins end.
            ranks: Ranks to count on the way, or `None`.
        """
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
        walk_pairs(queries.tensors, queries.codes, gallery, self.plan, tally, ranks)
        return CountedNegatives(tally, self.num_pairs)

    def accepted(self, counted: CountedNegatives, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each eligible class up to each cut.

        Args:
            counted: What `count` returned, up to the cuts.
            cuts: Distances in steps, increasing; shape `(t,)`.

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
    """Measure the retrieval of the queries that have a positive.

    Args:
        positives: The positive pairs of the queries.
        plan: How to go through their candidates.
        ranks: Ranks that have been counted on the way, or `None`.

    Returns:
        Whether there is a hit among the k nearest, shape `(queries, ks)`, and the
        average precision at R, shape `(queries,)`.
    """
    if ranks is not None:
        return ranks.retrieval(plan.ks)
    queries, gallery = positives.space.queries, positives.space.gallery
    measured = []
    for lists in positives.lists():
        ranks = NeighborRanks(lists, max(plan.ks))
        walk_pairs(queries.tensors, queries.codes, gallery, plan, ranks=ranks)
        measured.append(ranks.retrieval(plan.ks))
    hits, average_precision = zip(*measured, strict=True)
    return np.concatenate(hits), np.concatenate(average_precision)
