"""What is done with the similarities of tiles on the device that computes them.

The same as in `kernels`, which says what and why. Only counts leave the device.
"""

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from keras_tcm.evaluation._inputs.samples import to_host
from keras_tcm.evaluation._walk import device
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.tallies import NeighborRanks, Tally
from keras_tcm.evaluation.distances import NUM_STEPS, RANK_TIE_STEPS, STEPS_PER_UNIT

# Below every similarity.
_NO_PAIR = -2.0
# Integers have 32 bits on every backend. What counts exceed is carried over in time.
_CARRY_BITS = 24
_CARRIED_PAIRS = 2**29
# A larger tile could overflow them alone, if all of its pairs fell into one bin.
_TILE_PAIRS = 2**29
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
        self._parts: list[_TallyOnBackend | _RanksOnBackend] = []
        if tally is not None:
            self._parts.append(_TallyOnBackend(tally))
        if row_ranks is not None and row_ranks is column_ranks:
            self._parts.append(_RanksOnBackend(row_ranks, ("row", "column")))
        else:
            for ranks, end in ((row_ranks, "row"), (column_ranks, "column")):
                if ranks is not None:
                    self._parts.append(_RanksOnBackend(ranks, (end,)))

    def __enter__(self) -> "CounterOnBackend":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for part in self._parts:
                part.bring_back()

    def add(self, tile: Tile) -> None:
        """Count and rank the pairs of a tile."""
        values = _negatives(tile)
        for part in self._parts:
            part.add(tile, values)


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


def _samples(values: Any, end: str, places: Any, known: Any) -> Any:
    """Numbers of the samples at one end of a tile.

    What lies past the last sample has no pair, and may have any number that is known.

    Args:
        values: The similarities.
        end: `"row"` or `"column"`.
        places: The first of the rows, the first of the columns, and anything else.
        known: A tensor with an entry for each sample.
    """
    axis = 0 if end == "row" else 1
    numbers = places[axis] + ops.arange(values.shape[axis], dtype="int32")
    return ops.minimum(numbers, known.shape[0] - 1)


def _along(end: str, x: Any) -> Any:
    """What broadcasts numbers of one end along the other."""
    return x[:, None] if end == "row" else x[None]


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


def fits(tally: Tally, sides: tuple[int, int]) -> bool:
    """Whether counts fit on the device, and they and their places in 32 bits.

    Args:
        tally: What counts.
        sides: Rows and columns of a tile.
    """
    sizes = _sizes(tally).values()
    free = device.free_bytes()
    # Two integers a count, and as many again while they are added to.
    is_affordable = free is None or 16 * sum(sizes) <= _SHARE_OF_DEVICE * free
    has_places = max(sizes) < 2**31
    return is_affordable and has_places and math.prod(sides) <= _TILE_PAIRS


class _TallyOnBackend:
    """Counts of a `Tally`, in tensors whose shapes hardly depend on its bins."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        num_steps = len(tally.bin_of_step)
        self._bins = {
            "bin_of_step": _tensor(_padded(tally.bin_of_step, _capacity(num_steps))),
            "num_steps": _tensor(num_steps),
            "num_bins": _tensor(len(tally.edges)),
            "cut": ops.convert_to_tensor(tally.cut),
        }
        self._slots = {
            end: _tensor(_padded(slots, _capacity(len(slots))))
            for end, slots in (("row", tally.row_slots), ("column", tally.column_slots))
            if slots is not None
        }
        self._counts = {
            part + name: ops.zeros(size, "int32")
            for name, size in _sizes(tally).items()
            for part in ("", "high_")
        }
        self._num_pairs = 0

    def add(self, tile: Tile, values: Any) -> None:
        """Count the pairs of a tile."""
        num_pairs = tile.num_rows * tile.num_columns
        if self._num_pairs + num_pairs > _CARRIED_PAIRS:
            self._counts, self._num_pairs = _carry()(self._counts), 0
        self._num_pairs += num_pairs
        fold = self._tally.fold_of(tile.row_start)
        first_places = fold * np.array(
            [self._tally.histogram.shape[1], self._tally.table[0].size]
        )
        self._counts = _count(tuple(self._slots))(
            self._counts,
            values,
            self._bins,
            self._slots,
            _tensor([tile.row_start, tile.column_start, *first_places]),
        )

    def bring_back(self) -> None:
        """Add the counts to the tally."""
        counts = _carry()(self._counts)
        for name in "histogram", "table":
            whole = getattr(self._tally, name)
            low, high = (
                to_host(counts[part + name])[: whole.size] for part in ("", "high_")
            )
            found = (high.astype(np.int64) << _CARRY_BITS) + low
            whole += found.reshape(whole.shape).astype(whole.dtype)


@functools.cache
def _count(ends: tuple[str, ...]) -> Any:
    def count(
        counts: Tensors,
        values: Any,
        bins: Tensors,
        slots: Tensors,
        places: Any,
    ) -> Tensors:
        first_step, first_entry = places[2], places[3]
        along = [
            _along(end, ops.take(slots[end], _samples(values, end, places, slots[end])))
            for end in ends
        ]
        is_near, values, *selected = device.select(
            values >= bins["cut"], values, *along
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
            entries = first_entry + some * bins["num_bins"] + of_step
            found["table"] = device.add_at(found["table"], entries, is_near)
        return found

    return device.compiled(count)


@functools.cache
def _carry() -> Any:
    """Make what moves that which fills the low bits into the high ones."""

    def carry(counts: Tensors) -> Tensors:
        moved = {}
        for name in "histogram", "table":
            high = ops.right_shift(counts[name], _CARRY_BITS)
            moved[name] = counts[name] - ops.left_shift(high, _CARRY_BITS)
            moved[f"high_{name}"] = counts[f"high_{name}"] + high
        return moved

    return device.compiled(carry)


# -------------------------------------------------------------------------------- ranks


class _RanksOnBackend:
    """What is counted for the `NeighborRanks` of the samples at some ends of pairs."""

    def __init__(self, ranks: NeighborRanks, ends: tuple[str, ...]) -> None:
        self._ranks = ranks
        counts = np.diff(ranks.offsets)
        num_queries, size = _capacity(len(counts)), _capacity(len(ranks.positives))
        query = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(query)) - ranks.offsets[query]
        self._lists = {
            "positives": _tensor(_padded(ranks.positives, size)),
            "number": _tensor(_padded(number, size)),
            # Past the last one: entries of no query.
            "query": _tensor(_padded(query + 1, size) - 1),
            "starts": _tensor(_padded(ranks.offsets[:-1], num_queries)),
            "limit": _tensor(_padded(ranks.limit, num_queries)),
        }
        self._counted = {
            "nearer": ops.zeros(size, "int32"),
            "live": _tensor(_padded(ranks.live, num_queries)),
        }
        self._rank = _rank(ends, int(counts.max(initial=0)).bit_length())

    def add(self, tile: Tile, values: Any) -> None:
        """Rank the neighbours of the samples of a tile."""
        starts = np.array([tile.row_start, tile.column_start]) - self._ranks.start
        self._counted = self._rank(self._counted, values, self._lists, _tensor(starts))

    def bring_back(self) -> None:
        """Add what is counted to the ranks."""
        ranks = self._ranks
        nearer, live = (
            to_host(self._counted[name])[: len(whole)]
            for name, whole in (("nearer", ranks.nearer), ("live", ranks.live))
        )
        ranks.add(range(ranks.start, ranks.stop), nearer, live)


@functools.cache
def _rank(ends: tuple[str, ...], depth: int) -> Any:
    """Make what ranks the neighbours of the samples at some ends of a tile.

    Args:
        ends: `"row"`, `"column"`, or both.
        depth: Steps of a binary search among the positives of a sample.
    """

    def rank(counted: Tensors, values: Any, lists: Tensors, places: Any) -> Tensors:
        nearer = counted["nearer"]
        for end in ends:
            queries = _samples(values, end, places, lists["starts"])
            nearer = _nearer(nearer, counted["live"], values, lists, end, queries)
        return {"nearer": nearer, "live": _live(nearer, lists)}

    def _nearer(
        nearer: Any, live: Any, values: Any, lists: Tensors, end: str, queries: Any
    ) -> Any:
        positives = lists["positives"]
        first, number = ops.take(lists["starts"], queries), ops.take(live, queries)
        last = ops.take(positives, ops.maximum(first + number - 1, 0))
        reach = ops.where(number > 0, last + RANK_TIE_STEPS, -2)
        # Up to a step too far; the steps themselves decide.
        cut = 1.0 - (ops.cast(reach, "float32") + 1.0) / STEPS_PER_UNIT
        cut, reach, low, high = (
            _along(end, x) for x in (cut, reach, first, first + number)
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
        return device.add_at(nearer, low, is_near)

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
