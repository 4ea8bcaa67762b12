"""Counts over all negative pairs, from one walk over them if possible."""

from collections.abc import Callable

import numpy as np

from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution
from keras_tcm.evaluation.executors import Executor
from keras_tcm.evaluation.negative_pairs import NegativePairs
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk
from keras_tcm.evaluation.population import Population
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.tile_kernels import NegativeCounts, count_type
from keras_tcm.evaluation.tile_walk import Progress

# Largest standard error that reading the classes' shares of negatives off bins may
# add, root mean square; otherwise a second walk counts exactly.
_MAX_ERROR = 4e-5
# Bins of the per-class counts: as many as the error asks for, since fewer are faster.
_BINS = (256, 4096)
_TABLE_BYTES = 2**27


class AllNegativePairs(NegativePairs):
    """Counts all pairs of different classes.

    A second walk is needed only where bins are too coarse: with few pairs, or many
    equal distances.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        population: The sizes of the classes.
        positives: The positive pairs.
        ks: Ranks that recall is asked for.
        block_size: Side of a block of pairs, or `None` to choose it.
        executor: See `PairWalk`.
        new_progress: Makes what each walk reports to.
    """

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        population: Population,
        positives: PositivePairs,
        ks: tuple[int, ...],
        block_size: int | None,
        executor: Executor | None,
        new_progress: Callable[[], Progress | None],
    ) -> None:
        self._walk = PairWalk(queries, gallery, block_size, executor=executor)
        super().__init__(queries, gallery, positives, self._walk, ks, new_progress)
        self.size = population.num_negative_pairs
        self.num_per_class = population.num_negatives
        self._slots = population.slots[queries.codes]
        self._counts: NegativeCounts

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each eligible class up to each cut."""
        counted = np.minimum(cuts, self._counts.edges[-1])
        accepted, error = self._counts.accepted(counted, self.num_per_class)
        if error > _MAX_ERROR:
            self._count(np.unique(counted), with_ranks=False)
            accepted, _ = self._counts.accepted(counted, self.num_per_class)
        # No pair is farther than the largest distance.
        return np.where(cuts == NUM_STEPS - 1, self.num_per_class[:, None], accepted)

    def _count(self, edges: np.ndarray, with_ranks: bool) -> None:
        ranks = None
        if with_ranks and self._positives.is_one_group:
            (group,) = self._positives.groups
            ranks = self._ranks = NeighborRanks(group, max(self._ks))
        self._counts = NegativeCounts(
            edges,
            self._slots,
            # A pair counts for the class of its gallery sample if that is a query too.
            self._slots if self._gallery is None else None,
            len(self.num_per_class),
            count_type(self.num_per_class.max()),
        )
        self._walk.run(self._counts, ranks, self._new_progress())
        self.distribution = Distribution(self._counts.histogram, self.size)

    def _edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        # The variance in the middle of a bin is a quarter of its pairs; the last bins
        # are some four times as full as the average.
        share = np.searchsorted(pilot, last, side="right") / len(pilot)
        variance = 4.0 * 0.25 * share * np.mean(1.0 / self.num_per_class)
        num_bins = np.clip(variance / _MAX_ERROR**2, *_BINS)
        num_rows = len(self.num_per_class) + 1
        row_bytes = count_type(self.num_per_class.max())().itemsize * num_rows
        num_bins = min(int(num_bins), max(_TABLE_BYTES // row_bytes, 16))
        grid = np.linspace(first, last, num_bins).astype(np.int64)
        return np.union1d(grid, np.minimum(cuts, last))
