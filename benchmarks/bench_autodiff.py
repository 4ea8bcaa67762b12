"""Time of the losses against the same formulas left to automatic differentiation.

TCM, MultiSimilarity and their sum, forward and backward, from one matrix of
similarities and without what the losses of the package do besides: no weights, no
blocks, no care for what has no pair. One command measures all backends:

    python benchmarks/bench_autodiff.py

`SMALLEST=2048` and `LARGEST=16384` in the environment choose other batches.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import bench_loss
import harness
from harness import Measurement

Formula = Callable[[Any, Any, Any], Any]


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    largest = 64 if is_quick else int(os.environ.get("LARGEST", 4096))
    batch = min(largest, int(os.environ.get("SMALLEST", 128)))
    while batch <= largest:
        yield from against_plain(batch, is_quick)
        batch *= 2


def against_plain(batch: int, is_quick: bool) -> Iterator[Measurement]:
    """Time the losses and their plain formulas in turn, and yield their ratios."""
    import keras_tcm

    base = keras_tcm.losses.MultiSimilarity
    losses = {
        "TCM": keras_tcm.TCM(),
        "MultiSimilarity": base(),
        "MultiSimilarity + TCM": base() + keras_tcm.TCM(),
        "AutoTCM": keras_tcm.AutoTCM(base()),
        "plain TCM": _plain(_tcm),
        "plain MultiSimilarity": _plain(_multi_similarity),
        "plain MultiSimilarity + TCM": _plain(_tcm, _multi_similarity),
    }
    x, labels = bench_loss._tensors(*bench_loss._batch(batch))
    times = harness.time_in_turn(
        {
            what: harness.timed(bench_loss._value_and_gradient(loss), x, labels)
            for what, loss in losses.items()
        },
        is_quick,
    )
    found = {
        what: Measurement(what, {"batch": batch}, seconds)
        for what, seconds in times.items()
    }
    yield from found.values()
    medians = {what: one.median or 0.0 for what, one in found.items()}
    both = medians["MultiSimilarity + TCM"]
    yield Measurement(
        "ratios",
        {"batch": batch},
        values={
            "TCM / plain": medians["TCM"] / medians["plain TCM"],
            "both / plain": both / medians["plain MultiSimilarity + TCM"],
            "both / MultiSimilarity": both / medians["MultiSimilarity"],
            "AutoTCM / MultiSimilarity": medians["AutoTCM"]
            / medians["MultiSimilarity"],
        },
    )


def _plain(*formulas: Formula) -> Callable[[Any, Any], Any]:
    """A loss as one would write it down, of formulas on one matrix."""
    from keras import ops

    def loss(labels: Any, x: Any) -> Any:
        x = x / ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True))
        similarities = ops.matmul(x, ops.transpose(x))
        is_same = ops.equal(labels[:, None], labels[None, :])
        samples = ops.arange(ops.shape(x)[0])
        is_other = ops.not_equal(samples[:, None], samples[None, :])
        positive = ops.logical_and(is_same, is_other)
        negative = ops.logical_not(is_same)
        return sum(formula(similarities, positive, negative) for formula in formulas)

    return loss


def _tcm(similarities: Any, positive: Any, negative: Any) -> Any:
    from keras import ops

    total = 0.0
    for is_hard, excess in (
        (ops.logical_and(positive, similarities <= 0.9), 0.9 - similarities),
        (ops.logical_and(negative, similarities >= 0.5), similarities - 0.5),
    ):
        is_hard = ops.cast(is_hard, "float32")
        total += ops.sum(is_hard * excess) / ops.maximum(ops.sum(is_hard), 1.0)
    return total


def _multi_similarity(similarities: Any, positive: Any, negative: Any) -> Any:
    from keras import ops

    fixed = ops.stop_gradient(similarities)
    lowest = ops.min(ops.where(positive, fixed, 9.0), axis=1, keepdims=True)
    highest = ops.max(ops.where(negative, fixed, -9.0), axis=1, keepdims=True)
    rows = 0.0
    for is_mined, scale in (
        (ops.logical_and(positive, fixed < highest + 0.1), -2.0),
        (ops.logical_and(negative, fixed > lowest - 0.1), 50.0),
    ):
        exponentials = ops.exp(scale * (similarities - 0.5))
        sums = ops.sum(ops.where(is_mined, exponentials, 0.0), axis=1)
        rows += ops.log1p(sums) / abs(scale)
    return ops.mean(rows)


if __name__ == "__main__":
    harness.run(__doc__, "autodiff", measure)
