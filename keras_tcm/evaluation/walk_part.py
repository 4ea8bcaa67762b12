"""A part of the walk over all pairs, which any process can count."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from keras_tcm.evaluation.blocks import Blocks
from keras_tcm.evaluation.counts import Counts
from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.positive_pairs import PositiveGroup
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.evaluation.tile_walk import TileWalk
from keras_tcm.evaluation.vectors import Vectors


@dataclasses.dataclass(frozen=True)
class PartRanks:
    """Ranks in a part of the pairs, to be added to those of other parts.

    Attributes:
        nearer: See `NeighborRanks`; exact for the live positives.
        live: See `NeighborRanks`.
    """

    nearer: np.ndarray
    live: np.ndarray


@dataclasses.dataclass(frozen=True)
class PartResult:
    """What has been counted in a part; addition merges it with other parts.

    Attributes:
        rows: The queries of the part.
        columns: Its gallery samples.
        counts: The `results` of the counts.
        row_ranks: Ranks of the queries, or `None`.
        column_ranks: Ranks of the gallery samples as queries, or `None`.
    """

    rows: range
    columns: range
    counts: list[tuple[np.ndarray, np.ndarray]]
    row_ranks: PartRanks | None
    column_ranks: PartRanks | None


@dataclasses.dataclass(frozen=True)
class WalkPart:
    """The pairs of some consecutive queries with some consecutive gallery samples.

    It holds all that counting takes, can be pickled, and can be counted again with the
    same result.

    Attributes:
        rows: The queries.
        columns: The gallery samples.
        row_vectors: Vectors of the queries.
        column_vectors: Vectors of the gallery samples, or `None` for the same samples
            as `rows`: each pair is then met once.
        first_same: First sample in `columns` of the class of each query, counted from
            the start of `columns`.
        last_same: The one after the last.
        sides: Rows and columns of a tile.
        use_numba: Whether to count with the faster kernels, where Numba is installed.
        new_counts: Makes what to count, or `None`.
        row_positives: Positive pairs of the queries, or `None` not to rank their
            neighbours.
        column_positives: The same for the gallery samples.
        largest_k: Ranks up to it are wanted.
        backend: Keras backend that computes the products.
    """

    rows: range
    columns: range
    row_vectors: Vectors
    column_vectors: Vectors | None
    first_same: np.ndarray
    last_same: np.ndarray
    sides: tuple[int, int]
    use_numba: bool
    new_counts: Callable[[], Counts] | None
    row_positives: PositiveGroup | None
    column_positives: PositiveGroup | None
    largest_k: int
    backend: str

    def count(self) -> PartResult:
        """Count the pairs."""
        backend = keras.backend.backend()
        if backend != self.backend:
            raise RuntimeError(
                "`client` must have workers with the Keras backend of this process, "
                f"{self.backend!r}: set KERAS_BACKEND in their environment. "
                f"Received: a worker with {backend!r}"
            )
        is_symmetric = self.column_vectors is None
        rows = Blocks(self.row_vectors)
        columns = rows
        if self.column_vectors is not None:
            columns = Blocks(self.column_vectors)
        counts = None if self.new_counts is None else self.new_counts()
        row_ranks = self._ranks(self.row_positives)
        column_ranks = self._ranks(self.column_positives)
        walk = TileWalk(
            rows, columns, self.first_same, self.last_same, self.sides, self.use_numba
        )
        with full_precision():
            walk.run(
                counts,
                row_ranks,
                row_ranks if is_symmetric else column_ranks,
                range(rows.size),
                is_symmetric,
            )
        return PartResult(
            self.rows,
            self.columns,
            [] if counts is None else counts.results(),
            _result(row_ranks),
            _result(column_ranks),
        )

    def _ranks(self, positives: PositiveGroup | None) -> NeighborRanks | None:
        return None if positives is None else NeighborRanks(positives, self.largest_k)


def count_part(part: WalkPart) -> PartResult:
    """Count the pairs of a part."""
    return part.count()


def _result(ranks: NeighborRanks | None) -> PartRanks | None:
    return None if ranks is None else PartRanks(ranks.nearer, ranks.live)
