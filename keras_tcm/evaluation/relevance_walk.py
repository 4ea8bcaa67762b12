"""The walk over all pairs under any relevance, some queries at a time."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from keras import ops

from keras_tcm.evaluation.blocks import similarities
from keras_tcm.evaluation.distribution import NUM_STEPS, to_steps
from keras_tcm.evaluation.neighbor_ranks import RANK_TIE_STEPS
from keras_tcm.evaluation.pair_walk import tile_side
from keras_tcm.evaluation.relevance_labels import comparable
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.tile_walk import Progress
from keras_tcm.relevance import Relevance

# Pairs that are held at a time, up to some 40 bytes each.
_HELD_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class Strip:
    """Pairs of consecutive queries with the whole gallery.

    Attributes:
        start: First query.
        steps: Distances in steps, int32 of shape `(queries, gallery)`; `NUM_STEPS`,
            farther than any pair, where a sample meets itself.
        is_positive: Whether each pair is positive; false there.
    """

    start: int
    steps: np.ndarray
    is_positive: np.ndarray

    def retrieval(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of each query that has a positive.

        A negative `RANK_TIE_STEPS` farther than a positive still ranks before it.

        Args:
            ks: Values of k.

        Returns:
            Whether there is a hit among the k nearest, shape `(queries, len(ks))`, and
            the average precision at R, shape `(queries,)`.
        """
        counts = self.is_positive.sum(axis=1)
        asking = np.flatnonzero(counts)
        if not len(asking):
            return np.zeros((0, len(ks)), np.bool_), np.zeros(0)
        counts, steps = counts[asking, None], self.steps[asking]
        # Twice the distance, and one more for positives: those are the odd ones.
        order = np.where(
            self.is_positive[asking],
            2 * steps + 1,
            2 * np.maximum(steps - RANK_TIE_STEPS, 0),
        )
        order[steps == NUM_STEPS] = 2 * NUM_STEPS
        depth = min(max(counts.max(), *ks), order.shape[1])
        order.partition(depth - 1, axis=1)
        nearest = np.sort(order[:, :depth], axis=1)
        is_hit = nearest % 2 == 1
        found = np.cumsum(is_hit, axis=1)
        rank = np.arange(1, depth + 1)
        precision = np.where(is_hit & (rank <= counts), found / rank, 0.0)
        average = precision.sum(axis=1) / counts[:, 0]
        return found[:, np.minimum(ks, depth) - 1] > 0, average


class RelevanceWalk:
    """Walks over all (query, gallery) pairs, from the side of the queries.

    Args:
        queries: The queries, in the order of their labels.
        gallery: The gallery, likewise, or `None` to pair the queries with each other:
            each pair is then met from both of its ends.
        labels: Labels of the queries, as `read_labels` returns them.
        gallery_labels: Labels of the gallery, or `None`.
        relevance: Tells which pairs are positive.
        block_size: Side of a block of products, or `None` to choose it.
        own: Where each query is in the gallery, if it is there: it does not pair with
            itself.

    Attributes:
        times_met: How often each pair is met.
        num_own: 1 if each query is in the gallery, or there is none; 0 otherwise.
        num_candidates: Gallery samples that each query is compared with.
    """

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        labels: np.ndarray,
        gallery_labels: np.ndarray | None,
        relevance: Relevance,
        block_size: int | None,
        own: np.ndarray | None = None,
    ) -> None:
        self._own = np.arange(queries.size) if gallery is None else own
        self._queries = queries
        self._gallery = queries if gallery is None else gallery
        self._labels = comparable(labels, relevance)
        self._gallery_labels = self._labels
        if gallery_labels is not None:
            self._gallery_labels = comparable(gallery_labels, relevance)
        self._relevance = relevance
        size = self._gallery.size
        self._num_columns = block_size or tile_side(size)
        num_rows = block_size or tile_side(queries.size)
        self._num_rows = min(num_rows, max(_HELD_PAIRS // size, 1))
        self.times_met = 2 if gallery is None else 1
        self.num_own = 0 if self._own is None else 1
        self.num_candidates = size - self.num_own

    def strips(
        self, progress: Progress | None = None, held_per_query: int = 1
    ) -> Iterator[Strip]:
        """Go through the pairs once.

        Args:
            progress: Called after each strip with the number of strips done and of
                all.
            held_per_query: Numbers that the caller holds for each query of a strip;
                where they are many, the strips have fewer queries.
        """
        num_rows = min(self._num_rows, max(_HELD_PAIRS // held_per_query, 1))
        starts = range(0, self._queries.size, num_rows)
        for done, start in enumerate(starts, start=1):
            yield self._strip(start, num_rows)
            if progress is not None:
                progress(done, len(starts))

    def _strip(self, start: int, num_rows: int) -> Strip:
        stop = min(start + num_rows, self._queries.size)
        rows = self._queries.block(start, num_rows)
        labels = ops.convert_to_tensor(self._labels[start:stop])
        steps = np.empty((stop - start, self._gallery.size), np.int32)
        is_positive = np.empty(steps.shape, np.bool_)
        for column in range(0, self._gallery.size, self._num_columns):
            columns = self._gallery.block(column, self._num_columns)
            others = self._gallery_labels[column : column + self._num_columns]
            relevant = self._relevance(labels, ops.convert_to_tensor(others))
            tile = slice(column, column + len(others))
            products = similarities(rows, columns)
            steps[:, tile] = to_steps(products[: stop - start, : len(others)])
            is_positive[:, tile] = ops.convert_to_numpy(relevant)
        if self._own is not None:
            own = np.arange(stop - start), self._own[start:stop]
            steps[own] = NUM_STEPS
            is_positive[own] = False
        return Strip(start, steps, is_positive)
