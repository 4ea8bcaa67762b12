"""Counts over all pairs, in blocks of rows.

Distances are compared as integers: the cosine distance in steps of 2^-21 (4.8e-7),
which is what float32 similarities resolve. A threshold accepts `TIE_STEPS` more
steps, so that pairs whose distances are equal fall on the same side of it however
the products were rounded.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from keras_tcm.evaluation.samples import Samples
from keras_tcm.ops.ranking import (
    average_precision_at_r,
    positive_ranks,
    recall_hits,
)

STEPS_PER_UNIT = 2**21
NUM_STEPS = 2 * STEPS_PER_UNIT + 1
TIE_STEPS = 2
# Beyond every distance: takes a pair out of a count.
_EXCLUDED = NUM_STEPS
# Pairs in a block when the caller does not say: 32 MiB per int32 array.
_BLOCK_PAIRS = 2**23


def accepted_steps(cosine_distances: np.ndarray) -> np.ndarray:
    """Largest distance in steps that each threshold accepts."""
    steps = np.floor(np.asarray(cosine_distances, np.float64) * STEPS_PER_UNIT)
    return steps.astype(np.int64) + TIE_STEPS


class PairCounter:
    """Walks over all (query, gallery) pairs and counts.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        num_classes: Number of classes that the codes of both refer to.
        block_size: Queries in a block, or `None` to choose it by memory.

    Attributes:
        query_counts: Queries of each class, shape `(num_classes,)`.
        gallery_counts: Gallery samples of each class.
        num_positives: Positives of one query of each class.
        num_columns: Size of the gallery, a query itself included.
    """

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        num_classes: int,
        block_size: int | None,
    ) -> None:
        self._queries = queries
        self._is_separate = gallery is not None
        self._gallery = queries if gallery is None else gallery
        self._num_classes = num_classes
        self._block_size = block_size or max(1, _BLOCK_PAIRS // self._gallery.size)
        classes = np.arange(num_classes + 1)
        # Samples are sorted by class: class c holds starts[c] to starts[c + 1].
        self._query_starts = np.searchsorted(queries.codes, classes)
        self._gallery_starts = np.searchsorted(self._gallery.codes, classes)
        self.query_counts = np.diff(self._query_starts)
        self.gallery_counts = np.diff(self._gallery_starts)
        self.num_columns = self._gallery.size
        self.num_positives = self.gallery_counts - (0 if self._is_separate else 1)

    def global_distributions(
        self, progress: Callable[[int], None]
    ) -> tuple["Distribution", "Distribution"]:
        """Count all positive and all negative pairs by distance, each pair once.

        Args:
            progress: Called after each block with the number of its pairs.

        Returns:
            The distances of the positive and of the negative pairs.
        """
        total = np.zeros(NUM_STEPS + 1, np.int64)
        positive = np.zeros(NUM_STEPS + 1, np.int64)
        for start, stop in self._blocks():
            first = self._first_column(start)
            steps = self._distances(start, stop, first)
            if not self._is_separate:
                rows, columns = np.arange(start, stop), np.arange(first, stop)
                steps[:, : stop - first][rows[:, None] >= columns] = _EXCLUDED
            total += np.bincount(steps.ravel(), minlength=NUM_STEPS + 1)
            same_class = [
                steps[row_slice, max(columns.start - first, 0) : columns.stop - first]
                for _, row_slice, columns in self._class_pieces(start, stop)
            ]
            positive += np.bincount(
                np.concatenate([piece.ravel() for piece in same_class]),
                minlength=NUM_STEPS + 1,
            )
            progress(steps.size)
        return Distribution(positive[:-1]), Distribution((total - positive)[:-1])

    def class_counts_and_ranks(
        self,
        accepted: np.ndarray,
        recall_at: tuple[int, ...],
        progress: Callable[[int], None],
    ) -> tuple[np.ndarray, np.ndarray, dict[int, float], float]:
        """Count accepted pairs by query class, and rank the neighbours.

        Args:
            accepted: Largest distance in steps that each threshold accepts, `(t,)`.
            recall_at: Values of k.
            progress: Called after each block with the number of its pairs.

        Returns:
            Positive and negative pairs accepted, `(classes, t)` each and counted
            from each end that is a query; recall at each k; mAP@R. The last two are
            means over the queries that have a positive.
        """
        cuts = np.unique(accepted)
        # Distance in steps -> number of cuts below it, so that cut number c accepts
        # the pairs in bins up to c.
        num_bins = len(cuts) + 1
        ends = np.clip(np.append(cuts + 1, NUM_STEPS), 0, NUM_STEPS)
        bin_of_step = np.repeat(np.arange(num_bins), np.diff(ends, prepend=0))
        total = np.zeros((self._num_classes, num_bins), np.int64)
        positive = np.zeros((self._num_classes, num_bins), np.int64)
        hits = dict.fromkeys(recall_at, 0)
        precision, num_queries = 0.0, 0
        for start, stop in self._blocks():
            steps = self._distances(start, stop, 0)
            bins = bin_of_step[steps]
            for code, rows, columns in self._class_pieces(start, stop):
                total[code] += np.bincount(bins[rows].ravel(), minlength=num_bins)
                piece = bins[rows, columns]
                positive[code] += np.bincount(piece.ravel(), minlength=num_bins)
                if not self._is_separate:
                    selves = bins[rows, start:stop].diagonal(rows.start)
                    own = np.bincount(selves, minlength=num_bins)
                    total[code] -= own
                    positive[code] -= own
            for ranks in self._positive_ranks(start, stop, steps, max(recall_at)):
                num_queries += len(ranks)
                precision += average_precision_at_r(ranks).sum()
                for k in recall_at:
                    hits[k] += int(recall_hits(ranks, k).sum())
            progress(steps.size)
        at_cut = np.searchsorted(cuts, accepted)
        positives_accepted = positive.cumsum(axis=1)[:, at_cut]
        negatives_accepted = (total - positive).cumsum(axis=1)[:, at_cut]
        recall = {k: count / num_queries for k, count in hits.items()}
        return positives_accepted, negatives_accepted, recall, precision / num_queries

    @property
    def num_pairs(self) -> int:
        """Pairs that both walks together compute, for a progress bar."""
        columns = self.num_columns
        pairs = self._queries.size * columns
        for start, stop in self._blocks():
            pairs += (stop - start) * (columns - self._first_column(start))
        return pairs

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self._queries.size, self._block_size):
            yield start, min(start + self._block_size, self._queries.size)

    def _first_column(self, start: int) -> int:
        """First gallery sample that a block's walk over unordered pairs needs.

        By symmetry, the pairs with earlier samples have been counted. Rounded down,
        because JAX compiles the product anew for every shape.
        """
        return 0 if self._is_separate else start - start % -(-self.num_columns // 16)

    def _distances(self, start: int, stop: int, first: int) -> np.ndarray:
        """Distances in steps of queries `start:stop` to the gallery from `first` on."""
        rows = self._queries.rows(start, stop)
        distances = 1.0 - self._gallery.similarities(rows, first)
        distances *= STEPS_PER_UNIT
        np.rint(distances, out=distances)
        np.clip(distances, 0, NUM_STEPS - 1, out=distances)
        return distances.astype(np.int32)

    def _class_pieces(
        self, start: int, stop: int
    ) -> Iterator[tuple[int, slice, slice]]:
        """Class by class: its code, its rows in the block, its gallery columns."""
        codes = self._queries.codes
        for code in range(codes[start], codes[stop - 1] + 1):
            first = max(self._query_starts[code], start) - start
            last = min(self._query_starts[code + 1], stop) - start
            if first < last:
                columns = slice(
                    self._gallery_starts[code], self._gallery_starts[code + 1]
                )
                yield code, slice(first, last), columns

    def _positive_ranks(
        self, start: int, stop: int, steps: np.ndarray, largest_k: int
    ) -> Iterator[np.ndarray]:
        """Ranks of the positives of each query, class by class. Changes `steps`."""
        pieces = [
            (rows, columns, self.num_positives[code])
            for code, rows, columns in self._class_pieces(start, stop)
            if self.num_positives[code] > 0
        ]
        if not pieces:
            return
        if not self._is_separate:
            own = np.arange(stop - start)
            steps[own, own + start] = _EXCLUDED
        positives = []
        for rows, columns, count in pieces:
            # The query itself, if it is among them, sorts last.
            positives.append(np.sort(steps[rows, columns], axis=1)[:, :count])
            steps[rows, columns] = _EXCLUDED
        largest_rank = max(largest_k, *(count for _, _, count in pieces))
        num_nearest = min(largest_rank, steps.shape[1])
        nearest = np.partition(steps, num_nearest - 1, axis=1)[:, :num_nearest]
        nearest.sort(axis=1)
        for (rows, _, _), distances in zip(pieces, positives, strict=True):
            yield positive_ranks(distances, nearest[rows])


class Distribution:
    """How many pairs lie at each distance, for the distances that occur.

    Args:
        histogram: Counts by distance in steps.

    Attributes:
        steps: The distances that occur, increasing.
        cumulative: Pairs up to each of them.
        size: Number of pairs.
    """

    def __init__(self, histogram: np.ndarray) -> None:
        self.steps = np.flatnonzero(histogram)
        self.cumulative = np.cumsum(histogram[self.steps])
        self.size = int(self.cumulative[-1]) if len(self.steps) else 0

    def share_up_to(self, steps: np.ndarray | int) -> np.ndarray:
        """Share of the pairs whose distance is at most `steps`."""
        counts = np.concatenate([[0], self.cumulative])
        return counts[np.searchsorted(self.steps, steps, side="right")] / self.size

    def order_statistic(self, index: int) -> int:
        """Distance of the pair with `index` pairs before it."""
        return int(self.steps[np.searchsorted(self.cumulative, index, side="right")])

    def quantile(self, share: float) -> tuple[int, int, float]:
        """Order statistics around a quantile.

        Args:
            share: The quantile, in [0, 1].

        Returns:
            The distances just below and just above the quantile, and how far between
            them it lies, in [0, 1).
        """
        position = share * (self.size - 1)
        lower = math.floor(position)
        upper = min(lower + 1, self.size - 1)
        below, above = self.order_statistic(lower), self.order_statistic(upper)
        return below, above, position - lower
