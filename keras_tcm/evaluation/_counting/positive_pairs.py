"""Distances of all positive pairs, query by query."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from keras_tcm.evaluation._inputs.pair_space import PairSpace
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk.neighbor_ranks import PositiveLists
from keras_tcm.evaluation._walk.tile_walk import similarities
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps

# Distances that are held at a time, 4 bytes each; more of them are computed anew for
# each use.
MAX_HELD = 2**25
# Classes with more pairs than this go through the backend one by one.
_LARGE_CLASS_PAIRS = 2**18
_CHUNK_ROWS = 16384
_TILE_ROWS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class PositivePairs:
    """The (query, gallery) pairs inside each class.

    Attributes:
        space: Which pairs there are.
    """

    space: PairSpace

    @functools.cached_property
    def num_pairs(self) -> int:
        """Number of pairs, each counted as often as it is met."""
        return int(self._per_query.sum())

    @property
    def is_held(self) -> bool:
        """Whether all distances fit in memory: they are then computed once."""
        return self.num_pairs <= MAX_HELD

    def lists(self) -> Iterator[PositiveLists]:
        """Distances of all pairs, of as many queries at a time as fit in memory."""
        if self.is_held:
            yield self._held
            return
        ends = np.cumsum(self._per_query)
        start = 0
        while start < len(ends):
            before = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, before + MAX_HELD, side="right"))
            stop = max(stop, start + 1)
            yield self._lists(start, stop)
            start = stop

    def histogram(self) -> Histogram:
        """Count all pairs by distance."""
        counts = np.zeros(NUM_STEPS, np.int64)
        for lists in self.lists():
            found = np.bincount(lists.steps)
            counts[: len(found)] += found
        return Histogram.of(counts, times_counted=self.space.times_met)

    def accepted(self, cuts: np.ndarray) -> np.ndarray:
        """Count, for each class, the distances up to each cut.

        Args:
            cuts: Distances in steps, increasing; shape `(t,)`.

        Returns:
            Integers of shape `(classes, t)`; each pair counts as often as it is met.
        """
        num_bins = len(cuts) + 1
        queries = self.space.queries
        counts = np.zeros((len(queries.starts) - 1, num_bins), np.int64)
        for lists in self.lists():
            codes = queries.codes[lists.start : lists.stop]
            first, last = codes[0], codes[-1] + 1
            entry_codes = np.repeat(codes - first, np.diff(lists.offsets))
            keys = entry_codes * num_bins + np.searchsorted(cuts, lists.steps)
            counts[first:last] += np.bincount(
                keys, minlength=(last - first) * num_bins
            ).reshape(-1, num_bins)
        return counts[:, :-1].cumsum(axis=1)

    @functools.cached_property
    def _per_query(self) -> np.ndarray:
        """Number of positives of each query."""
        per_class = np.diff(self.space.gallery.starts) - self.space.num_own
        # A class without queries has no row that uses its (possibly negative) count.
        return per_class[self.space.queries.codes]

    @functools.cached_property
    def _held(self) -> PositiveLists:
        return self._lists(0, self.space.queries.size)

    def _lists(self, start: int, stop: int) -> PositiveLists:
        queries, gallery = self.space.queries, self.space.gallery
        offsets = np.concatenate([[0], np.cumsum(self._per_query[start:stop])])
        steps = np.empty(offsets[-1], np.int32)
        class_starts = queries.starts
        query_counts = np.diff(class_starts)
        is_large = query_counts * np.diff(gallery.starts) > _LARGE_CLASS_PAIRS
        position = start
        while position < stop:
            code = queries.codes[position]
            class_stop = class_starts[code + 1]
            if position > class_starts[code] or class_stop > stop or is_large[code]:
                end = min(class_stop, stop, position + _TILE_ROWS)
                values = self._rows_of_one_class(position, end)
            else:
                # As many whole classes as there are, up to the next large one.
                last = code + 1
                columns = gallery.starts
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
        return PositiveLists(start, stop, offsets, steps)

    def _rows_of_one_class(self, start: int, stop: int) -> np.ndarray:
        queries, gallery, own = self.space.queries, self.space.gallery, self.space.own
        code = queries.codes[start]
        first, last = gallery.starts[code : code + 2]
        rows = to_tensor(queries.vectors[start:stop], _TILE_ROWS)
        steps = np.empty((stop - start, last - first), np.int32)
        for column in range(first, last, _TILE_ROWS):
            end = min(column + _TILE_ROWS, last)
            columns = to_tensor(gallery.vectors[column:end], _TILE_ROWS)
            products = similarities(rows, columns)[: stop - start, : end - column]
            steps[:, column - first : end - first] = to_steps(products)
        if own is not None:
            steps[np.arange(stop - start), own[start:stop] - first] = NUM_STEPS
        steps.sort(axis=1)
        return steps[:, : self._per_query[start]].ravel()

    def _whole_classes(self, first: int, last: int) -> np.ndarray:
        """Classes `first` to `last`, those of equal sizes at once."""
        queries, gallery, own = self.space.queries, self.space.gallery, self.space.own
        row_starts = queries.starts[first : last + 1]
        column_starts = gallery.starts[first : last + 1]
        rows = columns = queries.vectors[row_starts[0] : row_starts[-1]]
        if gallery is not queries:
            columns = gallery.vectors[column_starts[0] : column_starts[-1]]
        if own is not None:
            own = own[row_starts[0] : row_starts[-1]] - column_starts[0]
        row_starts = row_starts - row_starts[0]
        column_starts = column_starts - column_starts[0]
        num_rows, num_columns = np.diff(row_starts), np.diff(column_starts)
        per_query = num_columns - self.space.num_own
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
