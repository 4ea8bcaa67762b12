"""How to go through pairs."""

import dataclasses
from collections.abc import Callable, Sequence

import keras

from keras_tcm.evaluation._inputs.pair_space import PairSpace
from keras_tcm.evaluation._walk.executors import Executor

# Takes how much is done, and how much there is to do.
Progress = Callable[[int, int], None]
# With verbose="auto", a progress bar appears from this many pairs on (some seconds).
_LONG_RUN_PAIRS = 10**9


def no_progress() -> None:
    """Have no walk report anything."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to go through pairs, whatever is counted.

    Attributes:
        ks: Ranks that recall is asked for, none above the size of the gallery.
        max_pairs: Number of pairs to compare, at most; `None` for all.
        seed: Seed of a sample of the pairs.
        block_size: Side of a tile, or `None` to choose it.
        executor: Counts parts side by side; `None` for all devices of this process.
        new_progress: Makes what each walk reports to, or `None`.
    """

    ks: tuple[int, ...]
    max_pairs: int | None = None
    seed: int = 0
    block_size: int | None = None
    executor: Executor | None = None
    new_progress: Callable[[], Progress | None] = no_progress


def plan_for(
    space: PairSpace,
    recall_at: Sequence[int],
    max_pairs: int | None = None,
    seed: int = 0,
    block_size: int | None = None,
    executor: Executor | None = None,
    verbose: bool | str = "auto",
) -> Plan:
    """Plan how to go through the pairs of a space.

    Args:
        space: Which pairs there are.
        recall_at: Values of k for R@k; they may exceed every integer type.
        max_pairs: Number of pairs to compare, at most; all are if it is no fewer.
        seed: See `Plan`, like the next two.
        block_size: Side of a tile.
        executor: Counts parts.
        verbose: Whether to show progress bars; `"auto"` shows them on long runs.
    """
    num_pairs = space.num_pairs
    if max_pairs is not None and max_pairs >= num_pairs:
        max_pairs = None
    return Plan(
        ks=tuple(min(k, space.gallery.size) for k in recall_at),
        max_pairs=max_pairs,
        seed=seed,
        block_size=block_size,
        executor=executor,
        new_progress=lambda: _progress_bar(max_pairs or num_pairs, verbose),
    )


def _progress_bar(num_pairs: int, verbose: bool | str) -> Progress | None:
    if not (num_pairs >= _LONG_RUN_PAIRS if verbose == "auto" else verbose):
        return None
    bar: keras.utils.Progbar | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or keras.utils.Progbar(total, unit_name="block")
        bar.update(done, finalize=done == total)

    return report
