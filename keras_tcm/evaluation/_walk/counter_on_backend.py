"""What is done with the similarities of tiles on the device that computes them.

The same as in `kernels`, which says what and why. Only counts leave the device.
"""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_tcm.evaluation._walk import device
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.tallies import NeighborRanks, Tally
from keras_tcm.evaluation.distances import NUM_STEPS, RANK_TIE_STEPS, STEPS_PER_UNIT

# Below every similarity.
_NO_PAIR = -2.0
# Integers have 32 bits on every backend. What counts exceed is carried over in time.
_CARRY_BITS = 24
_CARRIED_PAIRS = 2**29
# Of the free memory of a device, for counts.
_SHARE_OF_DEVICE = 0.5

Tensors = dict[str, Any]


class CounterOnBackend:
    """Counts the pairs of tiles into what a walk adds to, at the end of a `with` block.

    Args:
        tally: What counts the pairs, or `None`.
        row_ranks: Ranks of the queries, or `None`.
        column_ranks: Ranks of the gallery samples as queries, or `None`; the same
            object where these are the queries.
    """

    def __init__(
        self,
        tally: Tally | None,
        row_ranks: NeighborRanks | None,
        column_ranks: NeighborRanks | None,
    ) -> None:
        self._tally = tally
        self._ends = {"row": row_ranks, "column": column_ranks}
        self._table = {} if tally is None else _bins_of(tally)
        self._counts = {} if tally is None else _no_counts(tally)
        self._ranks: dict[int, Tensors] = {}
        self._lists: dict[int, Tensors] = {}
        for ranks in filter(None, self._ends.values()):
            self._ranks[id(ranks)], self._lists[id(ranks)] = _lists_of(ranks)
        self._num_pairs = 0

    def __enter__(self) -> "CounterOnBackend":
        return self

    def add(self, tile: Tile) -> None:
        """Count and rank the pairs of a tile."""
        values = _negatives(tile)
        if self._tally is not None:
            self._count(tile, values, self._tally)
        for end, ranks in self._ends.items():
            if ranks is not None:
                self._rank(tile, values, end, ranks)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self._tally is not None:
            self._counts = _carried(self._counts)
            for name in "histogram", "table":
                whole = getattr(self._tally, name)
                low, high = (
                    ops.convert_to_numpy(self._counts[part + name])[: whole.size]
                    for part in ("", "high_")
                )
                found = (high.astype(np.int64) << _CARRY_BITS) + low
                whole += found.reshape(whole.shape).astype(whole.dtype)
        for ranks in {id(x): x for x in self._ends.values() if x is not None}.values():
            found = self._ranks[id(ranks)]
            nearer, live = (
                ops.convert_to_numpy(found[name])[:size]
                for name, size in (
                    ("nearer", len(ranks.nearer)),
                    ("live", len(ranks.live)),
                )
            )
            ranks.add(range(ranks.start, ranks.stop), nearer, live)

    def _count(self, tile: Tile, values: Any, tally: Tally) -> None:
        num_pairs = tile.num_rows * tile.num_columns
        if self._num_pairs + num_pairs > _CARRIED_PAIRS:
            self._counts, self._num_pairs = _carried(self._counts), 0
        self._num_pairs += num_pairs
        fold = tally.fold_of(tile.row_start)
        sides = ops.shape(values)
        ends = {
            name: _padded(slots[start : start + number], side)
            for name, slots, start, number, side in (
                ("row", tally.row_slots, tile.row_start, tile.num_rows, sides[0]),
                (
                    *("column", tally.column_slots, tile.column_start),
                    *(tile.num_columns, sides[1]),
                ),
            )
            if slots is not None
        }
        self._counts = _count(tuple(ends))(
            self._counts,
            values,
            self._table,
            {name: _tensor(slots) for name, slots in ends.items()},
            _tensor(fold * tally.histogram.shape[1]),
            _tensor(fold * tally.table[0].size),
        )

    def _rank(self, tile: Tile, values: Any, end: str, ranks: NeighborRanks) -> None:
        start = tile.row_start if end == "row" else tile.column_start
        lists = self._lists[id(ranks)]
        most = int(np.diff(ranks.offsets).max(initial=0))
        self._ranks[id(ranks)] = _rank(end, most.bit_length())(
            self._ranks[id(ranks)], values, lists, _tensor(start - ranks.start)
        )


def _tensor(values: Any) -> Any:
    return ops.convert_to_tensor(np.asarray(values, np.int32))


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values.astype(np.int32), (0, size - len(values)))


def _capacity(size: int) -> int:
    """A size that few shapes have: XLA compiles anew for each."""
    return 1 << max(size - 1, 2**10 - 1).bit_length()


# ------------------------------------------------------------------------------- tiles


def _negatives(tile: Tile) -> Any:
    """Similarities, with a value below all of them where there is no negative."""
    num_rows, num_columns = ops.shape(tile.similarities)
    is_whole = (tile.num_rows, tile.num_columns) == (num_rows, num_columns)
    if is_whole and not tile.is_triangle and (tile.first_same == tile.last_same).all():
        return tile.similarities
    # To rows past the last one all columns are of their class.
    last_same = np.full(num_rows, num_columns, np.int32)
    last_same[: tile.num_rows] = tile.last_same
    return _masked()(
        tile.similarities,
        _tensor(_padded(tile.first_same, num_rows)),
        _tensor(last_same),
        _tensor(tile.num_columns),
        _tensor(0 if tile.is_triangle else -num_rows),
    )


@functools.cache
def _masked() -> Any:
    def masked(
        values: Any, first_same: Any, last_same: Any, num_columns: Any, diagonal: Any
    ) -> Any:
        rows, columns = (ops.arange(size, dtype="int32") for size in values.shape)
        is_other = (columns < first_same[:, None]) | (columns >= last_same[:, None])
        is_pair = (columns < num_columns) & (columns > rows[:, None] + diagonal)
        return ops.where(is_other & is_pair, values, np.float32(_NO_PAIR))

    return device.compiled(masked)


def _steps(values: Any) -> Any:
    """Distances in steps, as `to_steps` makes them."""
    distances = (np.float32(1.0) - values) * np.float32(STEPS_PER_UNIT)
    return ops.cast(ops.clip(ops.round(distances), 0, NUM_STEPS - 1), "int32")


# ------------------------------------------------------------------------------ tallies


def _sizes(tally: Tally) -> dict[str, int]:
    return {
        "histogram": _capacity(tally.histogram.size),
        "table": _capacity(tally.table.size),
    }


def fits(tally: Tally) -> bool:
    """Whether counts fit on the device of this thread, and their places in 32 bits."""
    sizes = _sizes(tally).values()
    free = device.free_bytes()
    # Two integers a count, and as many again while they are added to.
    is_affordable = free is None or 16 * sum(sizes) <= _SHARE_OF_DEVICE * free
    return is_affordable and max(sizes) < 2**31


def _bins_of(tally: Tally) -> Tensors:
    """The bins, in tensors whose shapes hardly depend on them."""
    num_steps = len(tally.bin_of_step)
    return {
        "bin_of_step": _tensor(_padded(tally.bin_of_step, _capacity(num_steps))),
        "num_steps": _tensor(num_steps),
        "num_bins": _tensor(len(tally.edges)),
        "cut": ops.convert_to_tensor(tally.cut),
    }


def _no_counts(tally: Tally) -> Tensors:
    return {
        part + name: ops.zeros(size, "int32")
        for name, size in _sizes(tally).items()
        for part in ("", "high_")
    }


@functools.cache
def _count(ends: tuple[str, ...]) -> Any:
    def count(
        counts: Tensors,
        values: Any,
        bins: Tensors,
        slots: Tensors,
        first_step: Any,
        first_entry: Any,
    ) -> Tensors:
        # To broadcast along the other end.
        slots = {
            end: slots[end][:, None] if end == "row" else slots[end][None]
            for end in ends
        }
        is_near, values, *selected = device.select(
            values >= bins["cut"], values, *slots.values()
        )
        steps = _steps(values)
        is_near = is_near & (steps < bins["num_steps"])
        found = dict(counts)
        found["histogram"] = device.add_at(
            counts["histogram"], first_step + steps, is_near
        )
        of_step = ops.take(
            bins["bin_of_step"], ops.minimum(steps, bins["num_steps"] - 1)
        )
        for some in selected:
            places = first_entry + some * bins["num_bins"] + of_step
            found["table"] = device.add_at(found["table"], places, is_near)
        return found

    return device.compiled(count)


def _carried(counts: Tensors) -> Tensors:
    """Move what fills the low bits into the high ones."""
    return _carry()(counts)


@functools.cache
def _carry() -> Any:
    def carry(counts: Tensors) -> Tensors:
        moved = {}
        for name in "histogram", "table":
            high = ops.right_shift(counts[name], _CARRY_BITS)
            moved[name] = counts[name] - ops.left_shift(high, _CARRY_BITS)
            moved[f"high_{name}"] = counts[f"high_{name}"] + high
        return moved

    return device.compiled(carry)


# -------------------------------------------------------------------------------- ranks


def _lists_of(ranks: NeighborRanks) -> tuple[Tensors, Tensors]:
    """What is counted for some queries, and their positives."""
    counts = np.diff(ranks.offsets)
    num_queries, size = _capacity(len(counts)), _capacity(len(ranks.positives))
    number = np.arange(len(ranks.positives)) - np.repeat(ranks.offsets[:-1], counts)
    live = _tensor(_padded(ranks.live, num_queries))
    return {"nearer": ops.zeros(size, "int32"), "live": live}, {
        "positives": _tensor(_padded(ranks.positives, size)),
        "number": _tensor(_padded(number, size)),
        # Past the last one: entries of a query that none asks for.
        "query": _tensor(
            _padded(np.repeat(np.arange(len(counts)), counts) + 1, size) - 1
        ),
        "starts": _tensor(_padded(ranks.offsets[:-1], num_queries)),
        "limit": _tensor(_padded(ranks.limit, num_queries)),
    }


@functools.cache
def _rank(end: str, depth: int) -> Any:
    """Make what ranks the neighbours of one end of the pairs of a tile.

    Args:
        end: `"row"` or `"column"`.
        depth: Steps of a binary search among the positives of a query.
    """

    def rank(counted: Tensors, values: Any, lists: Tensors, start: Any) -> Tensors:
        positives = lists["positives"]
        number = values.shape[0 if end == "row" else 1]
        queries = ops.minimum(
            start + ops.arange(number, dtype="int32"), lists["starts"].shape[0] - 1
        )
        first, live = (ops.take(x, queries) for x in (lists["starts"], counted["live"]))
        last = ops.take(positives, ops.maximum(first + live - 1, 0))
        reach = ops.where(live > 0, last + RANK_TIE_STEPS, -2)
        # Up to a step too far; the steps themselves decide.
        cut = 1.0 - (ops.cast(reach, "float32") + 1.0) / STEPS_PER_UNIT
        cut, reach, low, high = (
            x[:, None] if end == "row" else x[None]
            for x in (cut, reach, first, first + live)
        )
        is_near, values, reach, low, high = device.select(
            (values >= cut) & (values > 0.75 * _NO_PAIR), values, reach, low, high
        )
        steps = _steps(values)
        is_near = is_near & (steps <= reach)
        # The first positive that is not nearer.
        for _ in range(depth):
            middle = ops.right_shift(low + high, 1)
            is_open = low < high
            is_before = steps > ops.take(positives, middle) + RANK_TIE_STEPS
            low = ops.where(is_open & is_before, middle + 1, low)
            high = ops.where(is_open & ~is_before, middle, high)
        nearer = device.add_at(counted["nearer"], low, is_near)
        return {"nearer": nearer, "live": _live(nearer, lists)}

    return device.compiled(rank)


def _live(nearer: Any, lists: Tensors) -> Any:
    """How many positives of each query have a rank that matters: those before them do.

    Sums over all lists may exceed 32 bits, which differences do not mind.
    """
    query = ops.maximum(lists["query"], 0)
    first = ops.take(lists["starts"], query)
    up_to = ops.cast(ops.cumsum(nearer), "int32")
    inside = up_to - ops.take(up_to, first) + ops.take(nearer, first)
    is_live = lists["number"] + 1 + inside <= ops.take(lists["limit"], query)
    return device.add_at(
        ops.zeros_like(lists["starts"]), query, is_live & (lists["query"] >= 0)
    )
