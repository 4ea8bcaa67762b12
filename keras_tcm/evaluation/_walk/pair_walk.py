"""The walk over all pairs of different classes, tile by tile, in one or in parts."""

import concurrent.futures
import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterator
from types import ModuleType

import keras
import numpy as np

from keras_tcm.evaluation._inputs.samples import (
    Samples,
    UnitVectors,
    products,
    similarities,
    to_host,
    to_tensor,
)
from keras_tcm.evaluation._walk import counter_on_backend, kernels
from keras_tcm.evaluation._walk.device import counts_on_backend, free_bytes
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.plan import Plan, check_backend, local_executor
from keras_tcm.evaluation._walk.tallies import NeighborRanks, PositiveLists, Tally
from keras_tcm.evaluation.distances import to_steps
from keras_tcm.evaluation.precision import full_precision

# Takes how much is done, and how much there is to do.
Progress = Callable[[int, int], None]
# Side of a tile when the caller does not say: 16 MiB of similarities.
_TILE_SIDE = 2048
# Longest side of a tile whose other side is shorter, or that stays on a device.
_MAX_SIDE = 4 * _TILE_SIDE
# Of the memory of a device that counts, this share is for a tile, and it takes so much
# for a pair: similarities, and in turn masks, steps, places.
_SHARE_OF_DEVICE = 0.25
_DEVICE_BYTES = 40
# Sides are multiples of it, so that JAX compiles few shapes.
_SIDE_UNIT = 256
# From this many pairs on, loading Numba is worth while.
_NUMBA_PAIRS = 2**26
# Longest side of a part, unless a tile is longer: what a worker holds depends on it.
_PART_SIDE = 2**14
# Parts along a side, at least, where there are as many tiles.
_MIN_PARTS = 8


def steps_between(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Distances in steps of all pairs of up to `size` rows and columns."""
    values = similarities(to_tensor(rows, size), to_tensor(columns, size))
    return to_steps(values[: len(rows), : len(columns)])


def new_progress(plan: Plan) -> Progress:
    """Make what a walk tells how much is done, and how much there is to do."""
    bar: keras.utils.Progbar | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if plan.shows_progress:
            bar = bar or keras.utils.Progbar(total, unit_name="block")
            bar.update(done, finalize=done == total)

    return report


class CounterOnHost:
    """Counts the pairs of tiles in a thread, while the next tile is computed.

    Args:
        chosen: Kernels that count.
        tally: What counts the pairs, or `None`.
        row_ranks: Ranks of the queries, or `None`.
        column_ranks: Ranks of the gallery samples as queries, or `None`.
    """

    def __init__(
        self,
        chosen: ModuleType,
        tally: Tally | None,
        row_ranks: NeighborRanks | None,
        column_ranks: NeighborRanks | None,
    ) -> None:
        self._kernels = chosen
        self._tally = tally
        self._ranks = row_ranks, column_ranks
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._pending: concurrent.futures.Future | None = None

    def __enter__(self) -> "CounterOnHost":
        return self

    def __exit__(self, *_: object) -> None:
        with self._thread:
            self._wait()

    def add(self, tile: Tile) -> None:
        """Count and rank the pairs of a tile, once the one before it is done."""
        tile = dataclasses.replace(tile, similarities=to_host(tile.similarities))
        self._wait()
        self._pending = self._thread.submit(self._process, tile)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _process(self, tile: Tile) -> None:
        if self._tally is not None:
            self._kernels.count(tile, self._tally)
        if self._ranks != (None, None):
            self._kernels.rank(tile, *self._ranks)


@dataclasses.dataclass(frozen=True, eq=False)
class TileWalk:
    """A walk over the pairs of different classes in a rectangle of pairs.

    Attributes:
        rows: The queries.
        columns: The gallery samples.
        first_same: First column with a sample of the class of each row.
        last_same: Column after the last such one.
        sides: Rows and columns of a tile.
        is_symmetric: Whether rows and columns are the same, and each pair is met once.
        device: Where the pairs are counted: one of `DEVICES`.
        use_numba: Whether to count with the faster kernels of the host, where Numba is
            installed.
    """

    rows: UnitVectors
    columns: UnitVectors
    first_same: np.ndarray
    last_same: np.ndarray
    sides: tuple[int, int]
    is_symmetric: bool
    device: str
    use_numba: bool

    def run(
        self,
        queries: range,
        tally: Tally | None,
        row_ranks: NeighborRanks | None,
        column_ranks: NeighborRanks | None,
        progress: Progress,
    ) -> None:
        """Go once through the pairs of some rows: count them, rank them, or both."""
        counted = tally, row_ranks, column_ranks
        is_on_backend = counts_on_backend(self.device) and (
            tally is None or counter_on_backend.fits(tally, self.sides)
        )
        counter = (
            counter_on_backend.CounterOnBackend(*counted)
            if is_on_backend
            else CounterOnHost(self._kernels(), *counted)
        )
        places = list(self._places(queries))
        with counter:
            for done, (row, column) in enumerate(places, start=1):
                tile = self._tile(row, queries.stop, column)
                if tile is not None:
                    counter.add(tile)
                progress(done, len(places))

    def _kernels(self) -> ModuleType:
        if self.use_numba and importlib.util.find_spec("numba") is not None:
            from keras_tcm.evaluation._walk import kernels_numba

            return kernels_numba
        return kernels

    def _places(self, queries: range) -> Iterator[tuple[int, int]]:
        """First row and column of each tile."""
        row_side, column_side = self.sides
        rows = range(queries.start, queries.stop, row_side)
        columns = range(0, len(self.columns), column_side)
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
        num_columns = min(column_side, len(self.columns) - column)
        some = slice(row, row + num_rows)
        first_same = np.clip(self.first_same[some] - column, 0, num_columns)
        last_same = np.clip(self.last_same[some] - column, 0, num_columns)
        if (last_same - first_same).min() == num_columns:
            return None
        return Tile(
            products(
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


def walk_pairs(
    queries: UnitVectors,
    codes: np.ndarray,
    gallery: Samples,
    plan: Plan,
    tally: Tally | None = None,
    ranks: NeighborRanks | None = None,
    row_side: int | None = None,
) -> None:
    """Go once through the (query, gallery) pairs of different classes.

    Where the gallery is the queries, each pair is met once and counts for both of its
    ends, unless ranks of only some queries are wanted: then each of these meets all
    others, and there can be no tally.

    With an executor, the pairs fall into parts, a rectangle each, that are counted side
    by side and then added. The tiles are the same, and so are the counts.

    Args:
        queries: The queries, in any order.
        codes: Class index of each.
        gallery: The gallery.
        plan: How to go through them.
        tally: What counts the pairs, if anything.
        ranks: The queries to rank the neighbours of, if any.
        row_side: Rows of a tile, if not its other side.
    """
    asked = range(len(queries))
    if tally is None and ranks is not None:
        asked = range(ranks.start, ranks.stop)
    walk = TileWalk(
        queries,
        gallery.vectors,
        gallery.starts[codes],
        gallery.starts[codes + 1],
        _sides(len(queries), gallery.size, plan, row_side),
        is_symmetric=gallery.vectors is queries.flipped and len(asked) == len(queries),
        device=plan.device,
        use_numba=len(queries) * gallery.size >= _NUMBA_PAIRS,
    )
    places = list(parts_of(asked, len(walk.columns), walk.sides, walk.is_symmetric))
    progress = new_progress(plan)
    executor = plan.executor or local_executor()
    if executor is None or len(places) == 1:
        walk.run(asked, tally, ranks, ranks if walk.is_symmetric else None, progress)
        return
    parts = (_part(walk, tally, ranks, rows, columns) for rows, columns in places)
    for done, result in enumerate(executor.run(parts), start=1):
        if tally is not None:
            tally.add(result.rows, result.columns, *result.counted)
        for side, found in (
            (result.rows, result.row_ranks),
            (result.columns, result.column_ranks),
        ):
            if ranks is not None and found is not None:
                ranks.add(side, *found)
        progress(done, len(places))


def tile_side(size: int, longest: int = _TILE_SIDE) -> int:
    """Choose the side of tiles that cover `size` samples evenly."""
    num_tiles = math.ceil(size / longest)
    return math.ceil(size / num_tiles / _SIDE_UNIT) * _SIDE_UNIT


@dataclasses.dataclass(frozen=True)
class PartResult:
    """What has been counted in a part, to be added to what other parts have.

    Attributes:
        rows: The queries of the part.
        columns: Its gallery samples.
        counted: Histogram and table of the tally, or nothing.
        row_ranks: `nearer` and `live` of the `NeighborRanks` of the queries, exact for
            the live positives; or `None`.
        column_ranks: Those of the gallery samples as queries, or `None`.
    """

    rows: range
    columns: range
    counted: tuple[np.ndarray, ...]
    row_ranks: tuple[np.ndarray, np.ndarray] | None
    column_ranks: tuple[np.ndarray, np.ndarray] | None


@dataclasses.dataclass(frozen=True, eq=False)
class WalkPart:
    """The pairs of some consecutive queries with some consecutive gallery samples.

    It holds all that counting takes, can be pickled, and can be called again with the
    same result.

    Attributes:
        rows: The queries.
        columns: The gallery samples.
        walk: The walk over them, counted from the first of each.
        new_tally: Makes what counts the pairs, or `None`.
        row_positives: Positives of the queries, or `None` not to rank their neighbours.
        column_positives: The same for the gallery samples.
        largest_k: Ranks up to it are wanted.
        backend: Keras backend that computes the products.
    """

    rows: range
    columns: range
    walk: TileWalk
    new_tally: Callable[[], Tally] | None
    row_positives: PositiveLists | None
    column_positives: PositiveLists | None
    largest_k: int
    backend: str

    def __call__(self) -> PartResult:
        """Count the pairs."""
        check_backend(self.backend)
        tally = None if self.new_tally is None else self.new_tally()
        row_ranks, column_ranks = (
            None if lists is None else NeighborRanks(lists, self.largest_k)
            for lists in (self.row_positives, self.column_positives)
        )
        with full_precision():
            self.walk.run(
                range(len(self.rows)),
                tally,
                row_ranks,
                row_ranks if self.walk.is_symmetric else column_ranks,
                lambda done, total: None,
            )
        found = (
            None if ranks is None else (ranks.nearer, ranks.live)
            for ranks in (row_ranks, column_ranks)
        )
        counted = () if tally is None else (tally.histogram, tally.table)
        return PartResult(self.rows, self.columns, counted, *found)


def _sides(
    num_rows: int, num_columns: int, plan: Plan, row_side: int | None
) -> tuple[int, int]:
    """Rows and columns of a tile."""
    longest = longest_side(plan.device)
    if row_side is not None:
        most = max(_MAX_SIDE, longest)
        longest = min(max(longest**2 // row_side, longest), most)
    return (
        row_side or plan.block_size or tile_side(num_rows, longest),
        plan.block_size or tile_side(num_columns, longest),
    )


def longest_side(device: str) -> int:
    """Longest side of square tiles: the fewer, the less often a GPU waits for more."""
    free = free_bytes() if counts_on_backend(device) else None
    if free is None:
        return _TILE_SIDE
    affordable = math.isqrt(int(_SHARE_OF_DEVICE * free) // _DEVICE_BYTES)
    return min(max(affordable, _SIDE_UNIT), _MAX_SIDE)


def parts_of(
    queries: range, num_columns: int, sides: tuple[int, int], is_symmetric: bool
) -> Iterator[tuple[range, range]]:
    """Rows and columns of each part.

    Args:
        queries: The rows of all.
        num_columns: Columns of all.
        sides: Rows and columns of a tile.
        is_symmetric: Whether rows and columns are the same, and each pair is met once.
    """
    row_side, column_side = sides
    column_ranges = _split(range(num_columns), column_side)
    for rows in _split(queries, row_side):
        for columns in column_ranges:
            if not is_symmetric or rows.start <= columns.start:
                yield rows, columns


def _split(whole: range, side: int) -> list[range]:
    """Split a side of the pairs at sides of tiles."""
    num_tiles = math.ceil(len(whole) / side)
    most = max(_PART_SIDE // side, 1)
    length = side * min(math.ceil(num_tiles / _MIN_PARTS), most)
    return [
        range(start, min(start + length, whole.stop))
        for start in range(whole.start, whole.stop, length)
    ]


def _part(
    walk: TileWalk,
    tally: Tally | None,
    ranks: NeighborRanks | None,
    rows: range,
    columns: range,
) -> WalkPart:
    is_diagonal = walk.is_symmetric and rows == columns
    row_vectors = column_vectors = walk.rows.part(rows)
    if not is_diagonal or walk.columns is not walk.rows:
        column_vectors = walk.columns.part(columns)
    column_positives = None
    if walk.is_symmetric and not is_diagonal and ranks is not None:
        column_positives = ranks.positives_of(columns)
    first_same, last_same = (
        np.clip(x[rows.start : rows.stop] - columns.start, 0, len(columns))
        for x in (walk.first_same, walk.last_same)
    )
    return WalkPart(
        rows=rows,
        columns=columns,
        walk=dataclasses.replace(
            walk,
            rows=row_vectors,
            columns=column_vectors,
            first_same=first_same,
            last_same=last_same,
            is_symmetric=is_diagonal,
        ),
        new_tally=None if tally is None else tally.part(rows, columns),
        row_positives=None if ranks is None else ranks.positives_of(rows),
        column_positives=column_positives,
        largest_k=0 if ranks is None else ranks.largest_k,
        backend=keras.backend.backend(),
    )
