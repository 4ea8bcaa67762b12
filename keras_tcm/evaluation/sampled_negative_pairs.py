"""Estimates of the counts over all negative pairs from some of them."""

import functools
import math
from collections.abc import Callable

import numpy as np

from keras_tcm.evaluation.blocks import Blocks
from keras_tcm.evaluation.counts import GroupedCounts
from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution
from keras_tcm.evaluation.errors import UndefinedError
from keras_tcm.evaluation.executors import Executor
from keras_tcm.evaluation.negative_pairs import NegativePairs
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk
from keras_tcm.evaluation.population import Population
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.tile_kernels import NegativeCounts, count_type, interpolate
from keras_tcm.evaluation.tile_walk import Progress
from keras_tcm.evaluation.vectors import HeldVectors

# Random groups of the sampled gallery: their differences give the standard errors.
NUM_GROUPS = 32
_MAX_BINS = 512
_TABLE_BYTES = 2**28


class SampledNegativePairs(NegativePairs):
    """Counts the pairs of all queries with a sample of the gallery.

    The sample is drawn without replacement and falls into random groups of equal
    sizes, which are counted apart. Neighbours are ranked for a sample of the queries,
    in the whole gallery: without a separate gallery these are the same pairs.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        own: Where each query is in the gallery, or `None` if they are not there.
        population: The sizes of the classes.
        ks: Ranks that recall is asked for.
        max_pairs: Number of pairs to compare, at most.
        seed: Seed of the samples.
        block_size: Most columns of a block of pairs, or `None` to choose it.
        executor: See `PairWalk`.
        new_progress: Makes what each walk reports to.

    Attributes:
        share: Share of the gallery that is sampled.
        query_share: Share of the queries whose neighbours are ranked.
        edges: Bins in which pairs are counted class by class.
    """

    edges: np.ndarray

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        own: np.ndarray | None,
        population: Population,
        ks: tuple[int, ...],
        max_pairs: int,
        seed: int,
        block_size: int | None,
        executor: Executor | None,
        new_progress: Callable[[], Progress | None],
    ) -> None:
        self._slots = population.slots[queries.codes]
        rng = np.random.default_rng(seed)
        others = queries if gallery is None else gallery
        budget = max_pairs if gallery is None else max_pairs // 2
        self._group_size = budget // queries.size // NUM_GROUPS
        size = self._group_size * NUM_GROUPS
        num_queries = size if gallery is None else budget // others.size
        if not size or not num_queries:
            least = max(NUM_GROUPS * queries.size, others.size)
            least *= 1 if gallery is None else 2
            raise ValueError(
                f"`max_pairs` must be at least {least} for these samples, "
                f"{NUM_GROUPS} for each. Received: max_pairs={max_pairs}"
            )
        self.share = size / others.size
        self.query_share = num_queries / queries.size
        drawn = rng.choice(others.size, size, replace=False)
        rows = _Rows(others, drawn, self._group_size)
        self._walk = PairWalk(rows, queries, block_size, self._group_size, executor)

        class_sizes = population.query_counts[rows.codes]
        self._group_sizes = (queries.size - class_sizes).reshape(NUM_GROUPS, -1).sum(1)
        self.size = int(self._group_sizes.sum())
        groups = np.repeat(np.arange(NUM_GROUPS), self._group_size)
        sampled = np.zeros((NUM_GROUPS, len(population.query_counts)), np.int64)
        np.add.at(sampled, (groups, rows.codes), 1)
        eligible = population.eligible
        self._group_per_class = population.query_counts[eligible] * (
            self._group_size - sampled[:, eligible]
        )
        self.num_per_class = self._group_per_class.sum(axis=0)
        if (self.num_per_class == self._group_per_class.max(axis=0)).any():
            raise UndefinedError(
                "`max_pairs` must be larger: a class has negative pairs with too few "
                f"of the sampled. Received: max_pairs={max_pairs}"
            )

        self._row_order = None
        ranked_own: np.ndarray | None
        if gallery is None:
            places = ranked_own = np.sort(drawn)
            # Queries that are rows of the walk as well are ranked on the way.
            self._row_order = np.searchsorted(places, drawn)
        else:
            places = np.sort(rng.choice(queries.size, num_queries, replace=False))
            ranked_own = None if own is None else own[places]
        ranked = Samples(
            queries.pick(places), queries.codes[places], len(queries.starts) - 1
        )
        positives = PositivePairs(ranked, others, ranked_own)
        if not positives.num_pairs:
            raise UndefinedError(
                "`max_pairs` must be larger: none of the sampled queries has a "
                f"positive. Received: max_pairs={max_pairs}"
            )
        super().__init__(
            queries,
            gallery,
            positives,
            PairWalk(ranked, others, block_size, executor=executor),
            ks,
            new_progress,
        )
        self._groups: list[NegativeCounts]

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Estimate the pairs of each eligible class up to each cut."""
        return self._accepted(self._table, self.num_per_class, cuts)

    def shares_without(self, group: int, cuts: np.ndarray) -> np.ndarray:
        """Shares of the pairs of each class up to each cut, without a group."""
        num_pairs = self.num_per_class - self._group_per_class[group]
        table = self._table - self._groups[group].table[:-1]
        return self._accepted(table, num_pairs, cuts) / num_pairs[:, None]

    def distribution_without(self, group: int) -> Distribution:
        """The pairs by distance, without a group."""
        histogram = self._histogram - self._groups[group].histogram
        return Distribution(histogram, self.size - int(self._group_sizes[group]))

    def _count(self, edges: np.ndarray, with_ranks: bool) -> None:
        self.edges = edges
        ranks = None
        if with_ranks and self._row_order is not None and self._positives.is_one_group:
            (group,) = self._positives.groups
            ranks = NeighborRanks(group.reordered(self._row_order), max(self._ks))
            self._ranks = ranks
        make = functools.partial(
            NegativeCounts,
            edges,
            None,
            self._slots,
            len(self.num_per_class),
            self._table_type,
            count_type(int(self._group_sizes.max())),
        )
        grouped = GroupedCounts(make, NUM_GROUPS, self._group_size)
        self._walk.run(grouped, ranks, self._new_progress())
        self._groups = grouped.groups
        self._table = np.zeros_like(self._groups[0].table[:-1], np.int64)
        self._histogram = np.zeros_like(self._groups[0].histogram, np.int64)
        for counts in self._groups:
            self._table += counts.table[:-1]
            self._histogram += counts.histogram
        self.distribution = Distribution(self._histogram, self.size)

    def _edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        row_bytes = self._table_type().itemsize * (len(self.num_per_class) + 1)
        num_bins = _TABLE_BYTES // (NUM_GROUPS * row_bytes)
        half = min(_MAX_BINS, max(num_bins, 16)) // 2
        # Half of the bins where the pilot's pairs are, the more the nearer they are.
        low, high = np.searchsorted(pilot, [first, last], side="right").clip(1)
        near = pilot[np.geomspace(low, high, half).astype(np.int64) - 1]
        grid = np.linspace(min(first, *cuts, last), last, half).astype(np.int64)
        return np.union1d(near[near <= last], grid)

    @property
    def _table_type(self) -> type:
        return count_type(self._group_per_class.max())

    def _accepted(
        self, table: np.ndarray, num_pairs: np.ndarray, cuts: np.ndarray
    ) -> np.ndarray:
        counted = interpolate(table, self.edges, np.minimum(cuts, self.edges[-1]))
        # No pair is farther than the largest distance.
        return np.where(cuts == NUM_STEPS - 1, num_pairs[:, None], counted)


class _Rows:
    """Some samples in the order drawn, as the rows of a walk."""

    def __init__(self, samples: Samples, places: np.ndarray, block_size: int) -> None:
        self.size = len(places)
        self.codes = samples.codes[places]
        vectors = HeldVectors(samples.pick(places))
        self.blocks = Blocks(vectors, math.ceil(self.size / block_size))
