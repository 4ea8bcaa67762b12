"""Estimates of the counts over all negative pairs from some of them."""

import dataclasses
import functools
import math

import numpy as np

from keras_tcm.evaluation._counting.negative_pairs import CountedNegatives
from keras_tcm.evaluation._counting.positive_pairs import PositivePairs
from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._inputs.samples import TensorRows, UnitVectors
from keras_tcm.evaluation._walk.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tally import Tally, count_type, interpolate
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram
from keras_tcm.evaluation.errors import UndefinedError

# Random folds of the sampled gallery: their differences give the standard errors.
NUM_FOLDS = 32
_MAX_BINS = 512
_TABLE_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class SampledNegatives:
    """The pairs of all queries with a sample of the gallery.

    The sample is drawn without replacement and falls into random folds of equal sizes,
    which are counted apart. Neighbours are ranked for a sample of the queries, in the
    whole gallery: without a separate gallery these are the same pairs.

    Attributes:
        space: Which pairs there are.
        sizes: Sizes of the classes.
        plan: How to go through the pairs.
        drawn: Places of the sample in the gallery, fold after fold.
        fold_sizes: Pairs of each fold, shape `(folds,)`.
        fold_per_class: Those of each eligible class, shape `(folds, C)`.
        ranked: The positive pairs of the queries whose neighbours are ranked.
    """

    space: PairSpace
    sizes: ClassSizes
    plan: Plan
    drawn: np.ndarray
    fold_sizes: np.ndarray
    fold_per_class: np.ndarray
    ranked: PositivePairs

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are counted."""
        return int(self.fold_sizes.sum())

    @functools.cached_property
    def num_per_class(self) -> np.ndarray:
        """Those of each eligible class, counted from each end that is a query."""
        return self.fold_per_class.sum(axis=0)

    @property
    def share(self) -> float:
        """Share of the gallery that is sampled."""
        return len(self.drawn) / self.space.gallery.size

    @property
    def query_share(self) -> float:
        """Share of the queries whose neighbours are ranked."""
        return self.ranked.space.queries.size / self.space.queries.size

    def new_ranks(self) -> NeighborRanks | None:
        """Ranks of queries that are rows of the walk as well, if there are any."""
        if self.space.has_gallery or not self.ranked.is_held:
            return None
        (lists,) = self.ranked.lists()
        order = np.searchsorted(np.sort(self.drawn), self.drawn)
        return NeighborRanks(lists.reordered(order), max(self.plan.ks))

    def edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose the bins: increasing edges from `first` to `last`, in steps."""
        row_bytes = self._table_type().itemsize * (len(self.num_per_class) + 1)
        num_bins = _TABLE_BYTES // (NUM_FOLDS * row_bytes)
        half = min(_MAX_BINS, max(num_bins, 16)) // 2
        # Half of the bins where the pilot's pairs are, the more the nearer they are.
        low, high = np.searchsorted(pilot, [first, last], side="right").clip(1)
        near = pilot[np.geomspace(low, high, half).astype(np.int64) - 1]
        grid = np.linspace(min(first, *cuts, last), last, half).astype(np.int64)
        return np.union1d(near[near <= last], grid)

    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs.

        Args:
            edges: Increasing distances in steps, at which the bins end.
            ranks: Ranks to count on the way, or `None`.
        """
        queries, gallery = self.space.queries, self.space.gallery
        fold_size = len(self.drawn) // NUM_FOLDS
        tally = Tally(
            edges,
            None,
            self.sizes.slots[queries.codes],
            len(self.num_per_class),
            self._table_type,
            count_type(int(self.fold_sizes.max())),
            fold_size,
            NUM_FOLDS,
        )
        rows = TensorRows(
            UnitVectors(gallery.vectors[self.drawn]),
            math.ceil(len(self.drawn) / fold_size),
        )
        codes = gallery.codes[self.drawn]
        walk_pairs(rows, codes, queries, self.plan, tally, ranks, row_side=fold_size)
        return CountedNegatives(tally, self.num_pairs)

    def accepted(self, counted: CountedNegatives, cuts: np.ndarray) -> np.ndarray:
        """Estimate the pairs of each eligible class up to each cut."""
        return _accepted(counted.table, counted.tally.edges, self.num_per_class, cuts)

    def shares_without(
        self, fold: int, counted: CountedNegatives, cuts: np.ndarray
    ) -> np.ndarray:
        """Shares of the pairs of each class up to each cut, without a fold."""
        num_pairs = self.num_per_class - self.fold_per_class[fold]
        table = counted.table - counted.tally.table[fold, :-1]
        accepted = _accepted(table, counted.tally.edges, num_pairs, cuts)
        return accepted / num_pairs[:, None]

    def histogram_without(self, fold: int, counted: CountedNegatives) -> Histogram:
        """The pairs by distance, without a fold."""
        counts = counted.counts - counted.tally.histogram[fold]
        return Histogram.of(counts, self.num_pairs - int(self.fold_sizes[fold]))

    @property
    def _table_type(self) -> type:
        return count_type(self.fold_per_class.max())


def sample_negatives(
    space: PairSpace, sizes: ClassSizes, plan: Plan, max_pairs: int
) -> SampledNegatives:
    """Draw the samples.

    Args:
        space: Which pairs there are.
        sizes: Sizes of the classes.
        plan: How to go through the pairs.
        max_pairs: Number of pairs to compare, at most.

    Raises:
        ValueError: If `max_pairs` is too small for a sample.
        UndefinedError: If a class, or all sampled queries, happen to lack pairs.
    """
    rng = np.random.default_rng(plan.seed)
    queries, gallery = space.queries, space.gallery
    budget = max_pairs // 2 if space.has_gallery else max_pairs
    fold_size = budget // queries.size // NUM_FOLDS
    size = fold_size * NUM_FOLDS
    num_queries = budget // gallery.size if space.has_gallery else size
    if not size or not num_queries:
        least = max(NUM_FOLDS * queries.size, gallery.size)
        least *= 2 if space.has_gallery else 1
        raise ValueError(
            f"`max_pairs` must be at least {least} for these samples, "
            f"{NUM_FOLDS} for each. Received: max_pairs={max_pairs}"
        )
    drawn = rng.choice(gallery.size, size, replace=False)
    codes = gallery.codes[drawn]
    fold_sizes = (queries.size - sizes.query_counts[codes]).reshape(NUM_FOLDS, -1)
    sampled = np.zeros((NUM_FOLDS, len(sizes.query_counts)), np.int64)
    np.add.at(sampled, (np.repeat(np.arange(NUM_FOLDS), fold_size), codes), 1)
    fold_per_class = sizes.query_counts[sizes.eligible] * (
        fold_size - sampled[:, sizes.eligible]
    )
    if (fold_per_class.sum(axis=0) == fold_per_class.max(axis=0)).any():
        raise UndefinedError(
            "`max_pairs` must be larger: a class has negative pairs with too few "
            f"of the sampled. Received: max_pairs={max_pairs}"
        )
    ranked = drawn
    if space.has_gallery:
        ranked = rng.choice(queries.size, num_queries, replace=False)
    positives = PositivePairs(space.of_queries(np.sort(ranked)))
    if not positives.num_pairs:
        raise UndefinedError(
            "`max_pairs` must be larger: none of the sampled queries has a "
            f"positive. Received: max_pairs={max_pairs}"
        )
    return SampledNegatives(
        space, sizes, plan, drawn, fold_sizes.sum(axis=1), fold_per_class, positives
    )


def _accepted(
    table: np.ndarray, edges: np.ndarray, num_pairs: np.ndarray, cuts: np.ndarray
) -> np.ndarray:
    counted = interpolate(table, edges, np.minimum(cuts, edges[-1]))
    # No pair is farther than the largest distance.
    return np.where(cuts == NUM_STEPS - 1, num_pairs[:, None], counted)
