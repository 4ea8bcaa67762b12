"""The walk over all pairs of different classes, tile by tile."""

import functools
import math
from collections.abc import Iterator
from typing import Protocol

import keras
import numpy as np

from keras_tcm.evaluation.blocks import Blocks
from keras_tcm.evaluation.counts import Counts
from keras_tcm.evaluation.executors import Executor, local_executor
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.tile_walk import Progress, TileWalk
from keras_tcm.evaluation.walk_part import WalkPart

# Side of a tile when the caller does not say: 16 MiB of similarities.
_TILE_SIDE = 2048
# Longest side of a tile whose other side is shorter.
_MAX_SIDE = 4 * _TILE_SIDE
# Sides are multiples of it, so that JAX compiles few shapes.
_SIDE_UNIT = 256
# From this many pairs on, loading Numba is worth while.
_NUMBA_PAIRS = 2**26
# Longest side of a part, unless a tile is longer: what a worker holds depends on it.
_PART_SIDE = 2**14
# Parts along a side, at least, where there are as many tiles.
_MIN_PARTS = 8


class Rows(Protocol):
    """Queries in any order."""

    size: int
    codes: np.ndarray
    blocks: Blocks


class PairWalk:
    """Walks over the (query, gallery) pairs of different classes.

    With an executor, the pairs fall into parts, a rectangle each, that are counted side
    by side and then added. The tiles are the same, and so are the counts.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        block_size: Side of a tile, or `None` to choose it.
        num_rows: Rows of a tile, if not its side.
        executor: Counts the parts. Defaults to `None`: all devices of this process.
    """

    def __init__(
        self,
        queries: Rows,
        gallery: Samples | None,
        block_size: int | None,
        num_rows: int | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._queries = queries
        self._is_separate = gallery is not None
        if gallery is None:
            # The queries are sorted, then, as a gallery is.
            assert isinstance(queries, Samples)
            gallery = queries
        self._gallery = gallery
        row_side = num_rows or block_size or tile_side(queries.size)
        longest = _TILE_SIDE
        if num_rows is not None:
            longest = min(max(_TILE_SIDE**2 // num_rows, _TILE_SIDE), _MAX_SIDE)
        self._sides = row_side, block_size or tile_side(gallery.size, longest)
        self._use_numba = queries.size * gallery.size >= _NUMBA_PAIRS
        self._first_same = gallery.starts[queries.codes]
        self._last_same = gallery.starts[queries.codes + 1]
        self._executor = executor or local_executor()

    def run(
        self,
        counts: Counts | None = None,
        ranks: NeighborRanks | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Go through the pairs once.

        Without a gallery each pair is met once and counts for both of its ends, unless
        ranks of only some queries are wanted: then each of these meets all others,
        and there can be no counts.

        Args:
            counts: What to count, or `None`.
            ranks: The queries to rank the neighbours of, or `None`.
            progress: Called after each tile, or part, with the number of them done and
                of all.
        """
        queries = range(self._queries.size)
        if counts is None and ranks is not None:
            queries = range(ranks.start, ranks.stop)
        is_symmetric = not self._is_separate and len(queries) == self._queries.size
        places = list(self._places(queries, is_symmetric))
        if self._executor is None or len(places) == 1:
            walk = TileWalk(
                self._queries.blocks,
                self._gallery.blocks,
                self._first_same,
                self._last_same,
                self._sides,
                self._use_numba,
            )
            column_ranks = ranks if is_symmetric else None
            walk.run(counts, ranks, column_ranks, queries, is_symmetric, progress)
            return
        make = functools.partial(self._part, counts, ranks, is_symmetric)
        parts = (make(rows, columns) for rows, columns in places)
        for done, part in enumerate(self._executor.run(parts), start=1):
            if counts is not None:
                counts.add(part.rows, part.columns, part.counts)
            if ranks is not None and part.row_ranks is not None:
                ranks.add(part.rows, part.row_ranks.nearer, part.row_ranks.live)
            if ranks is not None and part.column_ranks is not None:
                ranks.add(
                    part.columns, part.column_ranks.nearer, part.column_ranks.live
                )
            if progress is not None:
                progress(done, len(places))

    def _places(
        self, queries: range, is_symmetric: bool
    ) -> Iterator[tuple[range, range]]:
        """Rows and columns of each part."""
        row_ranges, column_ranges = (
            _split(whole, side)
            for whole, side in zip(
                (queries, range(self._gallery.size)), self._sides, strict=True
            )
        )
        for rows in row_ranges:
            for columns in column_ranges:
                if not is_symmetric or rows.start <= columns.start:
                    yield rows, columns

    def _part(
        self,
        counts: Counts | None,
        ranks: NeighborRanks | None,
        is_symmetric: bool,
        rows: range,
        columns: range,
    ) -> WalkPart:
        is_diagonal = is_symmetric and rows == columns
        column_vectors = column_positives = None
        if not is_diagonal:
            vectors = self._gallery.blocks.vectors
            column_vectors = vectors.part(columns.start, columns.stop)
        if is_symmetric and ranks is not None and not is_diagonal:
            column_positives = ranks.positives_of(columns)
        first_same, last_same = (
            np.clip(x[rows.start : rows.stop] - columns.start, 0, len(columns))
            for x in (self._first_same, self._last_same)
        )
        return WalkPart(
            rows=rows,
            columns=columns,
            row_vectors=self._queries.blocks.vectors.part(rows.start, rows.stop),
            column_vectors=column_vectors,
            first_same=first_same,
            last_same=last_same,
            sides=self._sides,
            use_numba=self._use_numba,
            new_counts=None if counts is None else counts.part(rows, columns),
            row_positives=None if ranks is None else ranks.positives_of(rows),
            column_positives=column_positives,
            largest_k=0 if ranks is None else ranks.largest_k,
            backend=keras.backend.backend(),
        )


def tile_side(size: int, longest: int = _TILE_SIDE) -> int:
    """Choose the side of tiles that cover `size` samples evenly."""
    num_tiles = math.ceil(size / longest)
    return math.ceil(size / num_tiles / _SIDE_UNIT) * _SIDE_UNIT


def _split(whole: range, tile: int) -> list[range]:
    """Split a side of the pairs at sides of tiles."""
    num_tiles = math.ceil(len(whole) / tile)
    most = max(_PART_SIDE // tile, 1)
    side = tile * min(math.ceil(num_tiles / _MIN_PARTS), most)
    return [
        range(start, min(start + side, whole.stop))
        for start in range(whole.start, whole.stop, side)
    ]
