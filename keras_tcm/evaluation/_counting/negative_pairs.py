"""Counts of all negative pairs, from one walk over them if possible."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_tcm.evaluation._counting.positive_pairs import PositivePairs
from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tally import Tally, count_type
from keras_tcm.evaluation._walk.tile_walk import similarities
from keras_tcm.evaluation.criteria import Criteria
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps

_PILOT_ROWS = 1024
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
        histogram: The pairs by distance, the nearest of them.
        tally: The same, and the pairs in bins, class by class.
        folds: The tally of each fold of a sample, which add up to `tally`; or none.
    """

    histogram: Histogram
    tally: Tally
    folds: Sequence[Tally] = ()


class NegativePairs(Protocol):
    """Pairs of different classes: all, or a sample of them.

    `AllNegatives` and `SampledNegatives` describe the methods.
    """

    @property
    def space(self) -> PairSpace:
        """Which pairs there are."""

    @property
    def ranked(self) -> PositivePairs:
        """The positive pairs of the queries whose neighbours are ranked."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are counted."""

    @property
    def num_per_class(self) -> np.ndarray:
        """Those of each eligible class."""

    def new_ranks(self) -> NeighborRanks | None:
        """Ranks that can be counted on the way, if there are any."""

    def edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose the bins."""

    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs in bins."""

    def accepted(self, counted: CountedNegatives, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each class up to each cut."""


def count_far_enough(
    pairs: NegativePairs,
    criteria: Criteria,
    positive: Histogram,
    ranks: NeighborRanks | None,
) -> CountedNegatives:
    """Count negative pairs as far as it matters, and rank neighbours on the way.

    Which distances matter is only known once the pairs have been counted. So a small
    pilot first tells about how far the counts must go; a walk then counts the pairs up
    to there, exactly in all and in bins class by class, and it is checked that they
    went far enough.

    Args:
        pairs: The pairs.
        criteria: What will be asked for.
        positive: The positive pairs by distance. The counts go at least to where FAR
            exceeds FRR.
        ranks: Ranks to count, or `None`.
    """
    pilot = _pilot(pairs.space)
    shares, cuts = criteria.shares, criteria.known_cuts(positive)
    # At these no class is to be read off a bin. At the largest distance every pair is
    # accepted: nothing to count.
    exact_cuts = criteria.at_cuts[criteria.at_cuts < NUM_STEPS - 1]
    asked = (*shares, _crossing_share(pilot, positive))
    first = min(_quantile(pilot, 0.5 * min(asked)), NUM_STEPS - 2)
    share = 1.25 * max(asked) + 0.002
    while True:
        last = max(_quantile(pilot, share), first + 1, *cuts)
        edges = np.union1d(pairs.edges(pilot, first, last, cuts), exact_cuts)
        counted = pairs.count(edges, ranks)
        # What the pilot did not foresee is counted anew, farther.
        if last == NUM_STEPS - 1 or _is_enough(
            last, shares, counted.histogram, positive
        ):
            return counted
        share, ranks = 2.0 * share, None


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
    space = positives.space
    measured = []
    for lists in positives.lists():
        ranks = NeighborRanks(lists, max(plan.ks))
        walk_pairs(space.queries, space.gallery, plan, ranks=ranks)
        measured.append(ranks.retrieval(plan.ks))
    hits, average_precision = zip(*measured, strict=True)
    return np.concatenate(hits), np.concatenate(average_precision)


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
        slots = self.sizes.slots[self.space.queries.codes]
        tally = Tally(
            edges,
            slots,
            # A pair counts for the class of its gallery sample if that is a query too.
            None if self.space.has_gallery else slots,
            len(self.num_per_class),
            self._table_type,
        )
        walk_pairs(self.space.queries, self.space.gallery, self.plan, tally, ranks)
        return CountedNegatives(Histogram.of(tally.histogram, self.num_pairs), tally)

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
    rows, columns = (_spread(queries.size), _spread(gallery.size))
    values = similarities(
        to_tensor(queries.vectors[rows], _PILOT_ROWS),
        to_tensor(gallery.vectors[columns], _PILOT_ROWS),
    )[: len(rows), : len(columns)]
    is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
    return np.sort(to_steps(values[is_negative]))


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
