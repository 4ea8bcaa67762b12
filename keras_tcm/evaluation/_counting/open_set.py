"""Queries that nothing in the gallery answers: how near does it come to them?"""

import dataclasses
import functools
import math

import keras
import numpy as np
from keras import ops

from keras_tcm.evaluation._inputs.pair_space import PairSpace
from keras_tcm.evaluation._inputs.samples import UnitVectors, products, to_host
from keras_tcm.evaluation._walk.pair_walk import (
    longest_side,
    new_progress,
    parts_of,
    tile_side,
)
from keras_tcm.evaluation._walk.plan import Plan, check_backend, local_executor
from keras_tcm.evaluation.class_errors import ClassErrors
from keras_tcm.evaluation.distances import NUM_STEPS, to_steps
from keras_tcm.evaluation.precision import full_precision

# Below every similarity.
_NO_PAIR = np.float32(-2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class OpenSet:
    """How near the gallery comes to the queries without a positive pair.

    Attributes:
        num_queries: Number of these queries.
        nearest: Distance in steps from each of them, or from a random sample of them,
            to the nearest gallery sample, shape `(n,)`; of none if nobody asks for it.
        codes: Class index of each, shape `(n,)`; `None` where samples have several
            classes.
    """

    num_queries: int
    nearest: np.ndarray
    codes: np.ndarray | None = None

    def rates(self, cuts: np.ndarray) -> np.ndarray:
        """Share of the queries with a gallery sample up to each cut, shape `(t,)`.

        NaN if there are no queries.
        """
        if not len(self.nearest):
            return np.full(len(cuts), math.nan)
        return np.searchsorted(np.sort(self.nearest), cuts, "right") / len(self.nearest)

    def errors(self, cuts: np.ndarray) -> ClassErrors:
        """The queries of each class with a gallery sample up to each cut.

        What they tell is for other classes of queries against the same gallery.
        """
        assert self.codes is not None
        classes, codes = np.unique(self.codes, return_inverse=True)
        is_accepted = self.nearest[:, None] <= cuts
        errors = np.zeros((len(classes), len(cuts)), np.int64)
        np.add.at(errors, codes, is_accepted)
        return ClassErrors(
            errors=errors,
            pairs=np.bincount(codes, minlength=len(classes)),
            all_errors=errors.sum(axis=0),
            all_pairs=len(self.nearest),
        )

    def standard_errors(self, cuts: np.ndarray) -> np.ndarray:
        """Standard errors of `rates` as those of all queries: 0 unless it is a sample.

        A sample without any error, or of errors alone, has that of half an error.
        """
        size = len(self.nearest)
        if size in (0, self.num_queries):
            return np.zeros(len(cuts))
        rates = np.clip(self.rates(cuts), 0.5 / size, 1.0 - 0.5 / size)
        unsampled = 1.0 - size / self.num_queries
        return np.sqrt(unsampled * rates * (1.0 - rates) / (size - 1))


def find_open_set(space: PairSpace, plan: Plan, needs_nearest: bool) -> OpenSet:
    """Find the queries without a positive pair, and what lies nearest to each.

    Of more pairs than the plan allows, those of a random sample of these queries are
    compared.

    Args:
        space: Which pairs there are, by label.
        plan: How to go through them.
        needs_nearest: Whether to look for what lies nearest, or only to count them.
    """
    queries, gallery = space.queries, space.gallery
    has_positive = np.diff(gallery.starts) > space.num_own
    places = np.flatnonzero(~has_positive[queries.codes])
    number = len(places)
    if not needs_nearest:
        places = places[:0]
    if plan.max_pairs is not None and len(places) * gallery.size > plan.max_pairs:
        # Another stream than that of the sample of the pairs.
        rng = np.random.default_rng([plan.seed, 1])
        size = max(plan.max_pairs // gallery.size, 2)
        places = np.sort(rng.choice(places, size, replace=False))
    nearest: np.ndarray = np.zeros(0, np.int64)
    if len(places):
        own = None if space.own is None else space.own[places]
        rows = queries.vectors.at(places)
        nearest = nearest_steps(rows, gallery.vectors, own, plan)
    return OpenSet(number, nearest, queries.codes[places])


def nearest_steps(
    queries: UnitVectors, gallery: UnitVectors, own: np.ndarray | None, plan: Plan
) -> np.ndarray:
    """Distance in steps from each query to the nearest gallery sample.

    Args:
        queries: The queries.
        gallery: The gallery.
        own: Place of each query in the gallery, which does not count; or `None`.
        plan: How to go through the pairs.
    """
    longest = longest_side(plan.device)
    row_side, column_side = (
        plan.block_size or tile_side(len(vectors), longest)
        for vectors in (queries, gallery)
    )
    sides = row_side, column_side
    nearest = np.full(len(queries), NUM_STEPS - 1, np.int64)
    executor = plan.executor or local_executor()
    progress = new_progress(plan)
    places = [(range(len(queries)), range(len(gallery)))]
    if executor is not None:
        places = list(parts_of(places[0][0], len(gallery), sides, False))
    parts = (
        functools.partial(
            _nearest_of_part,
            queries.part(rows),
            gallery.part(columns),
            None if own is None else own[rows.start : rows.stop] - columns.start,
            sides,
            rows,
            keras.backend.backend(),
        )
        for rows, columns in places
    )
    results = (part() for part in parts) if executor is None else executor.run(parts)
    for done, (rows, found) in enumerate(results, start=1):
        some = nearest[rows.start : rows.stop]
        np.minimum(some, found, out=some)
        progress(done, len(places))
    return nearest


def _nearest_of_part(
    queries: UnitVectors,
    gallery: UnitVectors,
    own: np.ndarray | None,
    sides: tuple[int, int],
    rows: range,
    backend: str,
) -> tuple[range, np.ndarray]:
    """Compare consecutive queries with consecutive gallery samples, tile by tile.

    Args:
        queries: The queries.
        gallery: The gallery samples.
        own: Place of each query among these, if there; or `None`.
        sides: Rows and columns of a tile.
        rows: The queries, by number.
        backend: Keras backend that computes the products.

    Returns:
        `rows`, and the distance in steps from each to the nearest.
    """
    check_backend(backend)
    largest = np.full(len(queries), _NO_PAIR)
    with full_precision():
        for column in range(0, len(gallery), sides[1]):
            columns = gallery.tensor(column, sides[1])
            num_columns = min(sides[1], len(gallery) - column)
            for row in range(0, len(queries), sides[0]):
                some = largest[row : row + sides[0]]
                values = products(queries.tensor(row, sides[0]), columns)
                values = values[: len(some), :num_columns]
                if own is not None:
                    place = own[row : row + len(some)] - column
                    if ((place >= 0) & (place < num_columns)).any():
                        # Made where the values are: it is as large as they.
                        wanted = ops.convert_to_tensor(place.astype(np.int32))
                        columns_of_tile = ops.arange(num_columns, dtype="int32")
                        is_own = ops.equal(columns_of_tile, wanted[:, None])
                        values = ops.where(is_own, _NO_PAIR, values)
                # Only the largest of each row leave the device.
                np.maximum(some, to_host(ops.max(values, axis=1)), out=some)
    return rows, to_steps(largest)
