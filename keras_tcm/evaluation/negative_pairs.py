"""Counts of negative pairs: what all and sampled ones have in common."""

import abc
from collections.abc import Callable

import numpy as np

from keras_tcm.evaluation.blocks import similarities, to_block
from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution, to_steps
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.tile_walk import Progress

_PILOT_ROWS = 1024


class NegativePairs(abc.ABC):
    """Counts pairs of different classes by distance, and ranks neighbours.

    Which distances matter is only known once the pairs have been counted. So a small
    pilot first tells about how far the counts must go; a walk then counts the pairs up
    to there, exactly in all and in bins class by class, and it is checked that they
    went far enough.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        positives: The positive pairs of the queries whose neighbours are ranked.
        rank_walk: Walks over the candidates of those queries.
        ks: Ranks that recall is asked for.
        new_progress: Makes what each walk reports to.

    Attributes:
        size: Number of negative pairs that are counted.
        num_per_class: Those of each eligible class, counted from each end that is a
            query.
        distribution: The pairs by distance, the nearest of them.
    """

    size: int
    num_per_class: np.ndarray
    distribution: Distribution

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        positives: PositivePairs,
        rank_walk: PairWalk,
        ks: tuple[int, ...],
        new_progress: Callable[[], Progress | None],
    ) -> None:
        self._queries = queries
        self._gallery = gallery
        self._positives = positives
        self._rank_walk = rank_walk
        self._ks = ks
        self._new_progress = new_progress
        self._ranks: NeighborRanks | None = None

    def count(
        self,
        shares: tuple[float, ...],
        cuts: np.ndarray,
        exact_cuts: np.ndarray,
        positive: Distribution,
    ) -> None:
        """Count the pairs as far as it matters, and rank the neighbours if possible.

        Args:
            shares: Quantiles of the negative distances that will be asked for.
            cuts: Distances in steps that are known to be asked for.
            exact_cuts: More of these, at which no class is to be read off a bin.
            positive: The positive pairs by distance. The counts go at least to where
                FAR exceeds FRR.
        """
        pilot = self._pilot()
        asked = (*shares, _crossing_share(pilot, positive))
        first = min(_quantile(pilot, 0.5 * min(asked)), NUM_STEPS - 2)
        share = 1.25 * max(asked) + 0.002
        with_ranks = True
        while True:
            last = max(_quantile(pilot, share), first + 1, *cuts)
            # At the largest distance every pair is accepted: nothing to count.
            edges = np.union1d(
                self._edges(pilot, first, last, cuts),
                exact_cuts[exact_cuts < NUM_STEPS - 1],
            )
            self._count(edges, with_ranks)
            # What the pilot did not foresee is counted anew, farther.
            if last == NUM_STEPS - 1 or self._is_enough(last, shares, positive):
                return
            share, with_ranks = 2.0 * share, False

    @abc.abstractmethod
    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count the pairs of each eligible class up to each cut.

        Args:
            cuts: Distances in steps, increasing; shape `(t,)`.

        Returns:
            Counts of shape `(classes, t)` of `num_per_class` pairs.
        """

    def retrieval(self) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of the queries that have a positive.

        Returns:
            Whether there is a hit among the k nearest, shape `(queries, ks)`, and the
            average precision at R, shape `(queries,)`.
        """
        if self._ranks is not None:
            return self._ranks.retrieval(self._ks)
        measured = []
        for group in self._positives.groups:
            ranks = NeighborRanks(group, max(self._ks))
            self._rank_walk.run(ranks=ranks, progress=self._new_progress())
            measured.append(ranks.retrieval(self._ks))
        hits, average_precision = zip(*measured, strict=True)
        return np.concatenate(hits), np.concatenate(average_precision)

    @abc.abstractmethod
    def _count(self, edges: np.ndarray, with_ranks: bool) -> None:
        """Count the pairs in bins that end at the edges; set `distribution`.

        Args:
            edges: Increasing distances in steps.
            with_ranks: Whether to rank the neighbours on the way, if possible.
        """

    @abc.abstractmethod
    def _edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose the bins: increasing edges from `first` to `last`, in steps."""

    def _is_enough(
        self, last: int, shares: tuple[float, ...], positive: Distribution
    ) -> bool:
        """Whether the bins up to `last` hold what will be asked for."""
        negative = self.distribution
        far = negative.share_up_to(last)
        frr = 1.0 - positive.share_up_to(last)
        # One more than a quantile needs: an operating point asks for the next pair.
        indices = [negative.quantile_index(share)[0] + 2 for share in shares]
        most = min(max(indices, default=0), negative.size - 1)
        return bool(far >= frr) and negative.has(most, last)

    def _pilot(self) -> np.ndarray:
        """Distances in steps of some negative pairs, increasing."""
        queries = self._queries
        gallery = queries if self._gallery is None else self._gallery
        rows, columns = (_spread(queries.size), _spread(gallery.size))
        values = similarities(
            to_block(queries.pick(rows), _PILOT_ROWS),
            to_block(gallery.pick(columns), _PILOT_ROWS),
        )[: len(rows), : len(columns)]
        is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
        return np.sort(to_steps(values[is_negative]))


def _spread(size: int) -> np.ndarray:
    """Positions spread evenly, so that all classes are among them if possible."""
    return np.unique(np.linspace(0, size - 1, _PILOT_ROWS).astype(np.int64))


def _quantile(pilot: np.ndarray, share: float) -> int:
    if share >= 1.0:
        return NUM_STEPS - 1
    return int(pilot[int(share * len(pilot))])


def _crossing_share(pilot: np.ndarray, positive: Distribution) -> float:
    """Share of the pilot up to where FAR reaches FRR."""
    far = np.arange(1, len(pilot) + 1) / len(pilot)
    frr = 1.0 - positive.share_up_to(pilot)
    return float(far[np.argmax(far >= frr)])
