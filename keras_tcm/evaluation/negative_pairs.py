"""Counts over all negative pairs, from one walk over them if possible."""

from collections.abc import Callable, Iterator

import numpy as np

from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution, to_steps
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk, Progress
from keras_tcm.evaluation.population import Population
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.samples import Samples, similarities, to_block
from keras_tcm.evaluation.tile_kernels import NegativeCounts

# Bins of the per-class counts, if memory allows.
_MAX_BINS = 4096
_TABLE_BYTES = 2**27
# Largest standard error that reading the classes' shares of negatives off the bins may
# add; otherwise a second walk counts exactly.
_MAX_ERROR = 2e-5
_SAMPLE_ROWS = 1024


class NegativePairs:
    """Counts the pairs of different classes by distance, and ranks neighbours.

    Which distances matter is only known once all pairs have been counted. So a small
    sample first tells about how far the counts must go; one walk then counts the
    pairs up to there, exactly in all and in fine bins class by class, and checks that
    they go far enough. A second walk is needed only where bins are too coarse: with
    few pairs, or many equal distances.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        population: The sizes of the classes.
        positives: The positive pairs.
        ks: Ranks that recall is asked for.
        block_size: Side of a block of pairs, or `None` to choose it.
        new_progress: Makes what each walk reports to.

    Attributes:
        distribution: All negative pairs by distance, the nearest of them.
    """

    distribution: Distribution

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        population: Population,
        positives: PositivePairs,
        ks: tuple[int, ...],
        block_size: int | None,
        new_progress: Callable[[], Progress | None],
    ) -> None:
        self._queries = queries
        self._gallery = gallery
        self._population = population
        self._positives = positives
        self._ks = ks
        self._new_progress = new_progress
        self._walk = PairWalk(queries, gallery, block_size)
        self._counts: NegativeCounts
        self._ranks: NeighborRanks | None = None

    def count(
        self, shares: tuple[float, ...], cuts: np.ndarray, positive: Distribution
    ) -> None:
        """Count the pairs as far as it matters, and rank the neighbours if possible.

        Args:
            shares: Quantiles of the negative distances that will be asked for.
            cuts: Distances in steps that are known to be asked for.
            positive: The positive pairs by distance. The counts go at least to where
                FAR exceeds FRR.
        """
        if self._positives.is_one_group:
            (group,) = self._positives.groups
            self._ranks = NeighborRanks(group, max(self._ks))
        ranks = self._ranks
        sample = self._sample()
        asked = (*shares, _crossing_share(sample, positive))
        first = _quantile(sample, 0.5 * min(asked))
        share = 1.25 * max(asked) + 0.002
        while True:
            last = max(_quantile(sample, share), first + 1, *cuts)
            self._count(self._fine_edges(first, last, cuts), ranks)
            # What the sample did not foresee is counted anew, farther.
            if last == NUM_STEPS - 1 or self._is_enough(shares, positive):
                return
            share, ranks = 2.0 * share, None

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each eligible class up to each cut.

        Args:
            cuts: Distances in steps, shape `(t,)`.

        Returns:
            Counts of shape `(classes, t)`, each pair counted from each end that is a
            query.
        """
        num_negatives = self._population.num_negatives
        counted = np.minimum(cuts, self._counts.edges[-1])
        accepted, error = self._counts.accepted(counted, num_negatives)
        if error > _MAX_ERROR:
            self._count(np.unique(counted), None)
            accepted, _ = self._counts.accepted(counted, num_negatives)
        # No pair is farther than the largest distance.
        return np.where(cuts == NUM_STEPS - 1, num_negatives[:, None], accepted)

    def retrieval(self) -> tuple[dict[int, float], float]:
        """Recall at each k and mAP@R: means over the queries that have a positive."""
        num_hits = np.zeros(len(self._ks), np.int64)
        precision, num_queries = 0.0, 0
        for ranks in self._ranked_groups():
            hits, average_precision = ranks.retrieval(self._ks)
            num_hits += hits.sum(axis=0)
            precision += average_precision.sum()
            num_queries += len(hits)
        recall = (num_hits / num_queries).tolist()
        return dict(zip(self._ks, recall, strict=True)), precision / num_queries

    def _ranked_groups(self) -> Iterator[NeighborRanks]:
        if self._ranks is not None:
            yield self._ranks
            return
        for group in self._positives.groups:
            ranks = NeighborRanks(group, max(self._ks))
            self._walk.run(ranks=ranks, progress=self._new_progress())
            yield ranks

    def _count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> None:
        slots = self._population.slots
        row_slots = slots[self._queries.codes]
        self._counts = NegativeCounts(
            edges,
            row_slots,
            # A pair counts for the class of its gallery sample if that is a query too.
            row_slots if self._gallery is None else None,
            len(self._population.eligible),
            self._table_dtype,
        )
        self._walk.run(self._counts, ranks, self._new_progress())
        size = self._population.num_negative_pairs
        self.distribution = Distribution(self._counts.histogram, size)

    @property
    def _table_dtype(self) -> type:
        largest = self._population.num_negatives.max()
        return np.uint32 if largest <= np.iinfo(np.uint32).max else np.uint64

    def _fine_edges(self, first: int, last: int, cuts: np.ndarray) -> np.ndarray:
        row_bytes = np.dtype(self._table_dtype).itemsize * (
            len(self._population.eligible) + 1
        )
        num_bins = min(_MAX_BINS, max(_TABLE_BYTES // row_bytes, 16))
        grid = np.linspace(first, last, num_bins).astype(np.int64)
        return np.union1d(grid, np.minimum(cuts, last))

    def _is_enough(self, shares: tuple[float, ...], positive: Distribution) -> bool:
        negative = self.distribution
        far = negative.share_up_to(negative.limit)
        frr = 1.0 - positive.share_up_to(negative.limit)
        # One more than a quantile needs: an operating point asks for the next pair.
        indices = [negative.quantile_index(share)[0] + 2 for share in shares]
        most = max(indices, default=0)
        return bool(far >= frr) and negative.has(min(most, negative.size - 1))

    def _sample(self) -> np.ndarray:
        """Distances in steps of some negative pairs, increasing."""
        queries = self._queries
        gallery = queries if self._gallery is None else self._gallery
        rows, columns = (_spread(queries.size), _spread(gallery.size))
        values = similarities(
            to_block(queries.pick(rows), _SAMPLE_ROWS),
            to_block(gallery.pick(columns), _SAMPLE_ROWS),
        )[: len(rows), : len(columns)]
        is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
        return np.sort(to_steps(values[is_negative]))


def _spread(size: int) -> np.ndarray:
    """Positions spread evenly, so that all classes are among them if possible."""
    return np.unique(np.linspace(0, size - 1, _SAMPLE_ROWS).astype(np.int64))


def _quantile(sample: np.ndarray, share: float) -> int:
    if share >= 1.0:
        return NUM_STEPS - 1
    return int(sample[int(share * len(sample))])


def _crossing_share(sample: np.ndarray, positive: Distribution) -> float:
    """Share of the sample up to where FAR reaches FRR."""
    far = np.arange(1, len(sample) + 1) / len(sample)
    frr = 1.0 - positive.share_up_to(sample)
    return float(far[np.argmax(far >= frr)])
