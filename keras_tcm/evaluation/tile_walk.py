"""The walk over the tiles of a rectangle of pairs."""

import concurrent.futures
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

from keras_tcm.evaluation import tile_kernels
from keras_tcm.evaluation.blocks import Blocks, similarities
from keras_tcm.evaluation.counts import Counts
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.tile_kernels import Tile

Progress = Callable[[int, int], None]


class TileWalk:
    """Walks over the pairs of different classes in a rectangle of pairs.

    Products run on the backend; a thread counts a tile while the next is computed.

    Args:
        rows: The queries.
        columns: The gallery samples.
        first_same: First column with a sample of the class of each row.
        last_same: Column after the last such one.
        sides: Rows and columns of a tile.
        use_numba: Whether to count with the faster kernels, where Numba is installed.
    """

    def __init__(
        self,
        rows: Blocks,
        columns: Blocks,
        first_same: np.ndarray,
        last_same: np.ndarray,
        sides: tuple[int, int],
        use_numba: bool,
    ) -> None:
        self._rows, self._columns = rows, columns
        self._first_same, self._last_same = first_same, last_same
        self._row_side, self._column_side = sides
        self._kernels: ModuleType = tile_kernels
        if use_numba and importlib.util.find_spec("numba") is not None:
            from keras_tcm.evaluation import tile_kernels_numba

            self._kernels = tile_kernels_numba

    def run(
        self,
        counts: Counts | None,
        row_ranks: NeighborRanks | None,
        column_ranks: NeighborRanks | None,
        queries: range,
        is_symmetric: bool,
        progress: Progress | None = None,
    ) -> None:
        """Go through the pairs once.

        Args:
            counts: What to count, or `None`.
            row_ranks: Ranks of the rows as queries, or `None`.
            column_ranks: Ranks of the columns as queries, or `None`.
            queries: The rows to go through.
            is_symmetric: Whether rows and columns are the same, and each pair is met
                once.
            progress: Called after each tile with the number of tiles done and of all.
        """

        def process(tile: Tile) -> None:
            if counts is not None:
                self._kernels.count(tile, counts.of_rows(tile.row_start))
            if row_ranks is not None or column_ranks is not None:
                self._kernels.rank(tile, row_ranks, column_ranks)

        places = list(self._places(queries, is_symmetric))
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
            pending: concurrent.futures.Future | None = None
            for done, (row, column) in enumerate(places, start=1):
                is_triangle = is_symmetric and row == column
                tile = self._tile(row, queries.stop, column, is_triangle)
                if pending is not None:
                    pending.result()
                pending = None if tile is None else executor.submit(process, tile)
                if progress is not None:
                    progress(done, len(places))
            if pending is not None:
                pending.result()

    def _places(self, queries: range, is_symmetric: bool) -> Iterator[tuple[int, int]]:
        """First row and column of each tile."""
        rows = range(queries.start, queries.stop, self._row_side)
        columns = range(0, self._columns.size, self._column_side)
        if is_symmetric:
            # First those on the diagonal: they tell what each query still seeks.
            yield from ((start, start) for start in rows)
        # Go through as many as are cached, less one, before coming back to a column.
        group = max(self._rows.num_cached - 1, 1)
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
        num_columns = min(self._column_side, self._columns.size - column)
        some = slice(row, row + num_rows)
        first_same = np.clip(self._first_same[some] - column, 0, num_columns)
        last_same = np.clip(self._last_same[some] - column, 0, num_columns)
        if (last_same - first_same).min() == num_columns:
            return None
        return Tile(
            similarities(
                self._rows.block(row, self._row_side),
                self._columns.block(column, self._column_side),
            ),
            row,
            num_rows,
            column,
            num_columns,
            is_triangle,
            first_same,
            last_same,
        )
