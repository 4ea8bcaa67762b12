"""The walk over the tiles of a rectangle of pairs."""

import concurrent.futures
import dataclasses
import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation._inputs.samples import TensorRows
from keras_tcm.evaluation._walk import kernels
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation._walk.plan import Progress
from keras_tcm.evaluation._walk.tally import Tally


def similarities(rows: Any, columns: Any) -> np.ndarray:
    """Products of all rows of two backend tensors, on the host; may be read-only."""
    product = keras.ops.matmul(rows, keras.ops.transpose(columns))
    # Without the copy that Keras makes.
    if keras.backend.backend() == "torch":
        return product.detach().cpu().numpy()
    return np.asarray(product)


@dataclasses.dataclass(frozen=True, eq=False)
class TileWalk:
    """A walk over the pairs of different classes in a rectangle of pairs.

    Products run on the backend; a thread counts a tile while the next is computed.

    Attributes:
        rows: The queries.
        columns: The gallery samples.
        first_same: First column with a sample of the class of each row.
        last_same: Column after the last such one.
        sides: Rows and columns of a tile.
        is_symmetric: Whether rows and columns are the same, and each pair is met once.
        use_numba: Whether to count with the faster kernels, where Numba is installed.
    """

    rows: TensorRows
    columns: TensorRows
    first_same: np.ndarray
    last_same: np.ndarray
    sides: tuple[int, int]
    is_symmetric: bool
    use_numba: bool

    def run(
        self,
        queries: range,
        tally: Tally | None,
        row_ranks: NeighborRanks | None = None,
        column_ranks: NeighborRanks | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Go through the pairs once.

        Args:
            queries: The rows to go through.
            tally: What counts the pairs, or `None`.
            row_ranks: Ranks of the rows as queries, or `None`.
            column_ranks: Ranks of the columns as queries, or `None`.
            progress: Called after each tile with the number of tiles done and of all.
        """
        chosen = self._kernels()

        def process(tile: Tile) -> None:
            if tally is not None:
                chosen.count(tile, tally)
            if row_ranks is not None or column_ranks is not None:
                chosen.rank(tile, row_ranks, column_ranks)

        places = list(self._places(queries))
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
            pending: concurrent.futures.Future | None = None
            for done, (row, column) in enumerate(places, start=1):
                tile = self._tile(row, queries.stop, column)
                if pending is not None:
                    pending.result()
                pending = None if tile is None else executor.submit(process, tile)
                if progress is not None:
                    progress(done, len(places))
            if pending is not None:
                pending.result()

    def _kernels(self) -> ModuleType:
        if self.use_numba and importlib.util.find_spec("numba") is not None:
            from keras_tcm.evaluation._walk import kernels_numba

            return kernels_numba
        return kernels

    def _places(self, queries: range) -> Iterator[tuple[int, int]]:
        """First row and column of each tile."""
        row_side, column_side = self.sides
        rows = range(queries.start, queries.stop, row_side)
        columns = range(0, self.columns.size, column_side)
        if self.is_symmetric:
            # First those on the diagonal: they tell what each query still seeks.
            yield from ((start, start) for start in rows)
        # Go through as many as are cached, less one, before coming back to a column.
        num_held = max(self.rows.num_cached - 1, 1)
        for i in range(0, len(rows), num_held):
            for column in columns:
                for row in rows[i : i + num_held]:
                    if not self.is_symmetric or row < column:
                        yield row, column

    def _tile(self, row: int, last_row: int, column: int) -> Tile | None:
        """Compute a tile, or return `None` if it has no negative pair."""
        row_side, column_side = self.sides
        num_rows = min(row_side, last_row - row)
        num_columns = min(column_side, self.columns.size - column)
        some = slice(row, row + num_rows)
        first_same = np.clip(self.first_same[some] - column, 0, num_columns)
        last_same = np.clip(self.last_same[some] - column, 0, num_columns)
        if (last_same - first_same).min() == num_columns:
            return None
        return Tile(
            similarities(
                self.rows.tensor(row, row_side),
                self.columns.tensor(column, column_side),
            ),
            row,
            num_rows,
            column,
            num_columns,
            self.is_symmetric and row == column,
            first_same,
            last_same,
        )
