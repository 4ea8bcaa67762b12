"""Ranks of the positives of each query among all of its candidates."""

import dataclasses

import numpy as np

from keras_tcm.evaluation.distances import RANK_TIE_STEPS, STEPS_PER_UNIT


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
        lists: The positives of the queries.
        largest_k: Ranks up to it are wanted.

    Attributes:
        start: First query.
        stop: Query after the last.
        largest_k: See above.
        positives: Distances in steps of the positives, query by query, increasing.
        offsets: Where each query's positives start.
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
        """Add ranks of some queries among other candidates.

        A positive that one of the parts has given up is given up. Before it, all
        negatives have been counted in every part.

        Args:
            queries: The queries.
            nearer: Their `nearer` among these candidates.
            live: Their `live`.
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

        Args:
            ks: Values of k.

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
