"""Distances of all positive pairs, query by query."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_tcm.evaluation.blocks import similarities, to_block
from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution, to_steps
from keras_tcm.evaluation.samples import Samples

# Distances that are held at a time, 4 bytes each; more of them are computed anew for
# each use.
MAX_HELD = 2**25
# Classes with more pairs than this go through the backend one by one.
_LARGE_CLASS_PAIRS = 2**18
_CHUNK_ROWS = 16384
_BLOCK_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class PositiveGroup:
    """Positive pairs of consecutive queries.

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

    def part(self, first: int, last: int) -> "PositiveGroup":
        """Some consecutive queries alone, counted from the first of them."""
        offsets = self.offsets[first : last + 1]
        steps = self.steps[offsets[0] : offsets[-1]]
        return PositiveGroup(0, last - first, offsets - offsets[0], steps)

    def reordered(self, order: np.ndarray) -> "PositiveGroup":
        """The same queries in another order."""
        counts = np.diff(self.offsets)[order]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shift = np.repeat(self.offsets[:-1][order] - offsets[:-1], counts)
        steps = self.steps[np.arange(len(self.steps)) + shift]
        return PositiveGroup(self.start, self.stop, offsets, steps)


class PositivePairs:
    """The (query, gallery) pairs inside each class.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other: each
            pair is then met from both of its ends.
        own: Where each query is in the gallery, if it is there: it does not pair with
            itself. Shape `(queries.size,)`.

    Attributes:
        times_counted: How often the groups contain each pair.
        num_pairs: Number of pairs that the groups contain.
    """

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        own: np.ndarray | None = None,
    ) -> None:
        self._queries = queries
        self._gallery = queries if gallery is None else gallery
        self._own = np.arange(queries.size) if gallery is None else own
        self.times_counted = 2 if gallery is None else 1
        per_class = np.diff(self._gallery.starts) - (0 if self._own is None else 1)
        # A class without queries has no row that uses its (possibly negative) count.
        self._per_query = per_class[queries.codes]
        self.num_pairs = int(self._per_query.sum())
        self._held: list[PositiveGroup] | None = None
        if self.num_pairs <= MAX_HELD:
            self._held = [self._group(0, queries.size)]

    @property
    def groups(self) -> Iterator[PositiveGroup]:
        """All positive pairs, in groups that fit in memory."""
        if self._held is not None:
            yield from self._held
            return
        ends = np.cumsum(self._per_query)
        start = 0
        while start < self._queries.size:
            before = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, before + MAX_HELD, side="right"))
            stop = max(stop, start + 1)
            yield self._group(start, stop)
            start = stop

    @property
    def is_one_group(self) -> bool:
        """Whether all positive pairs fit in memory."""
        return self._held is not None

    def distribution(self) -> Distribution:
        """Count all positive pairs by distance."""
        histogram = np.zeros(NUM_STEPS, np.int64)
        for group in self.groups:
            counts = np.bincount(group.steps)
            histogram[: len(counts)] += counts
        return Distribution(histogram, times_counted=self.times_counted)

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count, for each class, the distances up to each cut.

        Args:
            cuts: Distances in steps, increasing; shape `(t,)`.

        Returns:
            Integers of shape `(classes, t)`; each pair counts `times_counted` times.
        """
        num_bins = len(cuts) + 1
        num_classes = len(self._queries.starts) - 1
        counts = np.zeros((num_classes, num_bins), np.int64)
        for group in self.groups:
            codes = self._queries.codes[group.start : group.stop]
            first, last = codes[0], codes[-1] + 1
            entry_codes = np.repeat(codes - first, np.diff(group.offsets))
            keys = entry_codes * num_bins + np.searchsorted(cuts, group.steps)
            counts[first:last] += np.bincount(
                keys, minlength=(last - first) * num_bins
            ).reshape(-1, num_bins)
        return counts[:, :-1].cumsum(axis=1)

    def _group(self, start: int, stop: int) -> PositiveGroup:
        offsets = np.concatenate([[0], np.cumsum(self._per_query[start:stop])])
        steps = np.empty(offsets[-1], np.int32)
        class_starts = self._queries.starts
        query_counts = np.diff(class_starts)
        is_large = query_counts * np.diff(self._gallery.starts) > _LARGE_CLASS_PAIRS
        position = start
        while position < stop:
            code = self._queries.codes[position]
            class_stop = class_starts[code + 1]
            if position > class_starts[code] or class_stop > stop or is_large[code]:
                end = min(class_stop, stop, position + _BLOCK_ROWS)
                values = self._rows_of_one_class(position, end)
            else:
                # As many whole classes as there are, up to the next large one.
                last = code + 1
                columns = self._gallery.starts
                while (
                    last < len(is_large)
                    and not is_large[last]
                    and class_starts[last + 1] <= min(stop, position + _CHUNK_ROWS)
                    and columns[last + 1] <= columns[code] + _CHUNK_ROWS
                ):
                    last += 1
                end = class_starts[last]
                values = self._whole_classes(code, last)
            first = offsets[position - start]
            steps[first : first + len(values)] = values
            position = end
        return PositiveGroup(start, stop, offsets, steps)

    def _rows_of_one_class(self, start: int, stop: int) -> np.ndarray:
        code = self._queries.codes[start]
        first, last = self._gallery.starts[code : code + 2]
        rows = to_block(self._queries.rows(start, stop), _BLOCK_ROWS)
        steps = np.empty((stop - start, last - first), np.int32)
        for column in range(first, last, _BLOCK_ROWS):
            end = min(column + _BLOCK_ROWS, last)
            columns = to_block(self._gallery.rows(column, end), _BLOCK_ROWS)
            products = similarities(rows, columns)[: stop - start, : end - column]
            steps[:, column - first : end - first] = to_steps(products)
        if self._own is not None:
            steps[np.arange(stop - start), self._own[start:stop] - first] = NUM_STEPS
        steps.sort(axis=1)
        return steps[:, : self._per_query[start]].ravel()

    def _whole_classes(self, first: int, last: int) -> np.ndarray:
        """Classes `first` to `last`, those of equal sizes at once."""
        row_starts = self._queries.starts[first : last + 1]
        column_starts = self._gallery.starts[first : last + 1]
        rows = self._queries.rows(row_starts[0], row_starts[-1])
        columns = rows
        if self._gallery is not self._queries:
            columns = self._gallery.rows(column_starts[0], column_starts[-1])
        own = None
        if self._own is not None:
            own = self._own[row_starts[0] : row_starts[-1]] - column_starts[0]
        row_starts = row_starts - row_starts[0]
        column_starts = column_starts - column_starts[0]
        num_rows, num_columns = np.diff(row_starts), np.diff(column_starts)
        per_query = num_columns - (0 if own is None else 1)
        sizes = num_rows * per_query
        starts = np.concatenate([[0], np.cumsum(sizes)])
        steps = np.empty(starts[-1], np.int32)
        keys = num_rows * (num_columns.max(initial=0) + 1) + num_columns
        for key in np.unique(keys[sizes > 0]):
            same = np.flatnonzero(keys == key)
            n, m = num_rows[same[0]], num_columns[same[0]]
            from_rows = row_starts[same][:, None] + np.arange(n)
            from_columns = column_starts[same][:, None] + np.arange(m)
            x, y = rows[from_rows], columns[from_columns]
            values = to_steps(np.matmul(x, y.transpose(0, 2, 1)))
            if own is not None:
                place = own[from_rows] - from_columns[:, :1]
                np.put_along_axis(values, place[:, :, None], NUM_STEPS, axis=2)
            values.sort(axis=2)
            kept = values[:, :, : per_query[same[0]]].reshape(len(same), -1)
            steps[starts[same][:, None] + np.arange(kept.shape[1])] = kept
        return steps
