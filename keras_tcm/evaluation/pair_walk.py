"""The walk over all pairs of different classes, tile by tile."""

import concurrent.futures
import importlib.util
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from keras_tcm.evaluation import tile_kernels
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.samples import Samples, similarities
from keras_tcm.evaluation.tile_kernels import NegativeCounts, Tile

# Side of a tile when the caller does not say: 16 MiB of similarities.
_TILE_SIDE = 2048
# Longest side of a tile whose other side is shorter.
_MAX_SIDE = 4 * _TILE_SIDE
# Sides are multiples of it, so that JAX compiles few shapes.
_SIDE_UNIT = 256
# From this many pairs on, loading Numba is worth while.
_NUMBA_PAIRS = 2**26

Progress = Callable[[int, int], None]


class Rows(Protocol):
    """Queries in any order."""

    size: int
    codes: np.ndarray
    num_cached_blocks: int

    def block(self, start: int, size: int) -> Any:
        """Unit vectors as a backend tensor: see `Samples.block`."""


class Counts(Protocol):
    """Counts of negative pairs, possibly kept apart for some rows."""

    def of_rows(self, start: int) -> NegativeCounts:
        """The counts to which the tile with this first row adds."""


class PairWalk:
    """Walks over the (query, gallery) pairs of different classes.

    Products run on the backend; a thread counts a tile while the next is computed.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        block_size: Side of a tile, or `None` to choose it.
        num_rows: Rows of a tile, if not its side.
    """

    def __init__(
        self,
        queries: Rows,
        gallery: Samples | None,
        block_size: int | None,
        num_rows: int | None = None,
    ) -> None:
        self._queries = queries
        self._is_separate = gallery is not None
        if gallery is None:
            # The queries are sorted, then, as a gallery is.
            assert isinstance(queries, Samples)
            gallery = queries
        self._gallery = gallery
        self._row_side = num_rows or block_size or tile_side(queries.size)
        longest = _TILE_SIDE
        if num_rows is not None:
            longest = min(max(_TILE_SIDE**2 // num_rows, _TILE_SIDE), _MAX_SIDE)
        self._column_side = block_size or tile_side(gallery.size, longest)
        self._kernels = _load_kernels(queries.size * gallery.size)

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
            progress: Called after each tile with the number of tiles done and of all.
        """
        first, last = 0, self._queries.size
        if counts is None and ranks is not None:
            first, last = ranks.start, ranks.stop
        is_symmetric = not self._is_separate and last - first == self._queries.size
        column_ranks = ranks if is_symmetric else None

        def process(tile: Tile) -> None:
            if counts is not None:
                self._kernels.count(tile, counts.of_rows(tile.row_start))
            if ranks is not None:
                self._kernels.rank(tile, ranks, column_ranks)

        places = list(self._places(first, last, is_symmetric))
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
            pending: concurrent.futures.Future | None = None
            for done, (row, column) in enumerate(places, start=1):
                is_triangle = is_symmetric and row == column
                tile = self._tile(row, last, column, is_triangle)
                if pending is not None:
                    pending.result()
                pending = None if tile is None else executor.submit(process, tile)
                if progress is not None:
                    progress(done, len(places))
            if pending is not None:
                pending.result()

    def _places(
        self, first: int, last: int, is_symmetric: bool
    ) -> Iterator[tuple[int, int]]:
        """First row and column of each tile."""
        rows = range(first, last, self._row_side)
        columns = range(0, self._gallery.size, self._column_side)
        if is_symmetric:
            # First those on the diagonal: they tell what each query still seeks.
            yield from ((start, start) for start in rows)
        # Go through as many as are cached, less one, before coming back to a column.
        group = max(self._queries.num_cached_blocks - 1, 1)
        for i in range(0, len(rows), group):
            for column in columns:
                for row in rows[i : i + group]:
                    if not is_symmetric or row < column:
                        yield row, column

    def _tile(
        self, row: int, last_row: int, column: int, is_triangle: bool
    ) -> Tile | None:
        """Compute a tile, or return `None` if it has no negative pair."""
        num_rows = min(self._row_side, last_row - row)
        num_columns = min(self._column_side, self._gallery.size - column)
        codes = self._queries.codes[row : row + num_rows]
        starts = self._gallery.starts
        first_same = np.clip(starts[codes] - column, 0, num_columns)
        last_same = np.clip(starts[codes + 1] - column, 0, num_columns)
        if (last_same - first_same).min() == num_columns:
            return None
        return Tile(
            similarities(
                self._queries.block(row, self._row_side),
                self._gallery.block(column, self._column_side),
            ),
            row,
            num_rows,
            column,
            num_columns,
            is_triangle,
            first_same,
            last_same,
        )


def tile_side(size: int, longest: int = _TILE_SIDE) -> int:
    """Choose the side of tiles that cover `size` samples evenly."""
    num_tiles = math.ceil(size / longest)
    return math.ceil(size / num_tiles / _SIDE_UNIT) * _SIDE_UNIT


def _load_kernels(num_pairs: int) -> ModuleType:
    if num_pairs < _NUMBA_PAIRS or importlib.util.find_spec("numba") is None:
        return tile_kernels
    from keras_tcm.evaluation import tile_kernels_numba

    return tile_kernels_numba
