"""What is done with the similarities of one tile of pairs (Numba).

The same as `kernels`, which says what and why.
"""

import numba
import numpy as np

from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.tallies import NeighborRanks, Tally
from keras_tcm.evaluation.distances import RANK_TIE_STEPS, STEPS_PER_UNIT

_STEPS_PER_UNIT = np.float32(STEPS_PER_UNIT)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
# Columns that are compared at a time, to pass over them if none can matter.
_STRIDE = 128


def count(tile: Tile, tally: Tally) -> None:
    """Count the negative pairs of a tile."""
    rows, columns = tally.row_slots, tally.column_slots
    none = np.zeros(0, np.int32)
    _count(
        tile.similarities[: tile.num_rows, : tile.num_columns],
        tile.is_triangle,
        tile.first_same,
        tile.last_same,
        tally.cut,
        none if rows is None else rows[tile.row_start :],
        none if columns is None else columns[tile.column_start :],
        tally.bin_of_step,
        *tally.of_rows(tile.row_start),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(  # type: ignore[no-untyped-def]
    similarities,
    is_triangle,
    first_same,
    last_same,
    cut,
    row_slots,
    column_slots,
    bin_of_step,
    histogram,
    table,
):
    num_rows, num_columns = similarities.shape
    near = np.empty(num_columns + 1, np.uint32)
    for i in range(num_rows):
        values = similarities[i]
        start = i + 1 if is_triangle else 0
        # Without branches: which pairs are near cannot be foreseen.
        n = np.uint32(0)
        for j in range(np.uint32(start), np.uint32(max(first_same[i], start))):
            near[n] = j
            n += np.uint32(values[j] >= cut)
        for j in range(np.uint32(max(last_same[i], start)), np.uint32(num_columns)):
            near[n] = j
            n += np.uint32(values[j] >= cut)
        for m in range(n):
            j = near[m]
            distance = max((_ONE - values[j]) * _STEPS_PER_UNIT, _ZERO)
            step = np.uint32(np.rint(distance))
            if step >= len(histogram):
                continue
            histogram[step] += 1
            k = bin_of_step[step]
            if len(row_slots):
                table[row_slots[i], k] += 1
            if len(column_slots):
                table[column_slots[j], k] += 1


def rank(tile: Tile, rows: NeighborRanks | None, columns: NeighborRanks | None) -> None:
    """Count the negative pairs of a tile that are nearer than a positive."""
    _rank(
        tile.similarities[: tile.num_rows, : tile.num_columns],
        tile.is_triangle,
        tile.first_same,
        tile.last_same,
        _state(rows, tile.row_start, tile.num_rows),
        _state(columns, tile.column_start, tile.num_columns),
    )


def _state(ranks: NeighborRanks | None, start: int, size: int) -> tuple:
    """Arrays of some queries; without ranks, queries that nothing can reach."""
    if ranks is None:
        none = np.zeros(0, np.int32)
        unreachable = np.full(size, np.inf, np.float32)
        return np.zeros(1, np.int64), none, none, none, none, none, unreachable
    first = start - ranks.start
    some = slice(first, first + size)
    return (
        ranks.offsets[first : first + size + 1],
        ranks.positives,
        ranks.nearer,
        ranks.live[some],
        ranks.seen[some],
        ranks.limit[some],
        ranks.reach[some],
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rank(  # type: ignore[no-untyped-def]
    similarities, is_triangle, first_same, last_same, rows, columns
):
    num_rows, num_columns = similarities.shape
    row_reach, column_reach = rows[6], columns[6]
    for i in range(num_rows):
        values = similarities[i]
        start = i + 1 if is_triangle else 0
        for half in range(2):
            # Before and after the samples of the same class.
            first = start if half == 0 else max(last_same[i], start)
            last = max(first_same[i], start) if half == 0 else num_columns
            for begin in range(first, last, _STRIDE):
                end = min(begin + _STRIDE, last)
                near, reach = values[begin:end], column_reach[begin:end]
                reach_of_row = row_reach[i]
                matter = np.int32(0)
                for j in range(len(near)):
                    matter += np.int32(near[j] >= min(reach_of_row, reach[j]))
                if matter:
                    for j in range(begin, end):
                        if values[j] >= row_reach[i]:
                            _count_nearer(rows, i, values[j])
                        if values[j] >= column_reach[j]:
                            _count_nearer(columns, j, values[j])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count_nearer(ranks, query, similarity):  # type: ignore[no-untyped-def]
    offsets, positives, nearer, live, seen, limit, reach = ranks
    distance = max((_ONE - similarity) * _STEPS_PER_UNIT, _ZERO)
    wanted = np.int64(np.rint(distance)) - RANK_TIE_STEPS
    start = offsets[query]
    low, high = start, start + live[query]
    end = high
    while low < high:
        middle = (low + high) // 2
        if positives[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    if low == end:
        return
    nearer[low] += 1
    seen[query] += 1
    if live[query] + seen[query] <= limit[query]:
        return
    while live[query] > 0 and live[query] + seen[query] > limit[query]:
        live[query] -= 1
        seen[query] -= nearer[start + live[query]]
    if live[query] == 0:
        reach[query] = np.inf
    else:
        farthest = positives[start + live[query] - 1]
        steps = farthest + RANK_TIE_STEPS + 0.75
        reach[query] = 1.0 - steps / STEPS_PER_UNIT
