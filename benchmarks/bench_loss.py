"""Time and memory of the losses, forward and backward.

TCM against the bare matrix products that it needs, against pytorch-metric-learning, and
as an addition to base losses.

    python benchmarks/bench_loss.py --backend jax
"""

import concurrent.futures.process
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
import numpy as np
from harness import Measurement

DIMENSION = 512
SAMPLES_PER_CLASS = 4


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    if is_quick:
        batches, base_losses, memory_batches, peer_batch = [64], ["SmoothAP"], [64], 64
    else:
        batches = [2**power for power in range(8, 15)]
        base_losses = ["SupervisedContrastive", "SmoothAP"]
        memory_batches, peer_batch = [1024, 2048, 4096, 8192, 16384], 1024
    for batch in batches:
        yield from against_products(batch, is_quick)
    for name in base_losses:
        yield from beside_base_loss(name, peer_batch, is_quick)
    for batch in memory_batches:
        peak = harness.peak_bytes_over_inputs(_tcm_steps, batch)
        yield Measurement("TCM memory", {"batch": batch}, peak_bytes=peak)
    yield from of_pytorch_metric_learning(peer_batch)


def against_products(batch: int, is_quick: bool) -> Iterator[Measurement]:
    """Time TCM against two and three products of its matrices.

    A similarity matrix and its gradient are one product each way. Plain automatic
    differentiation does three; two are enough where the gradient of the similarities is
    kept, and added to its transpose.
    """
    from keras import ops

    import keras_tcm

    def two_products(x: Any) -> Any:
        similarities = ops.matmul(x, ops.transpose(x))
        return ops.matmul(similarities, x)

    def three_products(x: Any) -> Any:
        similarities = ops.matmul(x, ops.transpose(x))
        return ops.matmul(similarities, x) + ops.matmul(ops.transpose(similarities), x)

    x, labels = _tensors(*_batch(batch))
    times = harness.time_in_turn(
        {
            "TCM": harness.timed(_value_and_gradient(keras_tcm.TCM()), x, labels),
            "two products": harness.timed(harness.compiled(two_products), x),
            "three products": harness.timed(harness.compiled(three_products), x),
        },
        is_quick,
    )
    product = 2.0 * batch**2 * DIMENSION
    for what, number in ("TCM", 2), ("two products", 2), ("three products", 3):
        yield Measurement(what, {"batch": batch}, times[what], flop=number * product)


def beside_base_loss(name: str, batch: int, is_quick: bool) -> Iterator[Measurement]:
    """Time a base loss with and without TCM."""
    import keras_tcm

    base = getattr(keras_tcm.losses, name)
    losses = {name: base(), f"{name} + TCM": base() + keras_tcm.TCM()}
    x, labels = _tensors(*_batch(batch))
    times = harness.time_in_turn(
        {
            what: harness.timed(_value_and_gradient(loss), x, labels)
            for what, loss in losses.items()
        },
        is_quick,
    )
    for what, seconds in times.items():
        yield Measurement(what, {"batch": batch}, seconds)


def of_pytorch_metric_learning(batch: int) -> Iterator[Measurement]:
    """Time pytorch-metric-learning's loss once, if there is enough memory."""
    import psutil

    # It holds every pair as several vectors.
    needed = 7 * 4 * batch**2 * DIMENSION
    available = psutil.virtual_memory().available
    if available < needed:
        print(
            f"Skipping pytorch-metric-learning at a batch of {batch}: it needs "
            f"{needed / 2**30:.0f} GiB, and {available / 2**30:.0f} are free.",
            file=sys.stderr,
        )
        return
    with harness.Worker() as worker:
        try:
            seconds, peak = worker.call(_pytorch_metric_learning, batch)
        except concurrent.futures.process.BrokenProcessPool:
            print("pytorch-metric-learning ran out of memory.", file=sys.stderr)
            return
    yield Measurement(
        "pytorch-metric-learning", {"batch": batch}, (seconds,), peak_bytes=peak
    )


def _pytorch_metric_learning(batch: int) -> tuple[float, int]:
    """Seconds of one forward and backward pass, and peak memory over the inputs."""
    import torch
    from pytorch_metric_learning import losses

    loss = losses.ThresholdConsistentMarginLoss()
    host, labels = _batch(batch)
    x, y = torch.from_numpy(host).requires_grad_(), torch.from_numpy(labels)
    torch.autograd.grad(loss(x[:64], y[:64]), x)
    before = harness.peak_bytes()
    start = time.perf_counter()
    torch.autograd.grad(loss(x, y), x)
    return time.perf_counter() - start, harness.peak_bytes() - before


def _tcm_steps(batch: int) -> Iterator[None]:
    import keras_tcm

    step = _value_and_gradient(keras_tcm.TCM())
    # The host's copy stays: memory that it gave back would hide what comes after.
    host = _batch(batch)
    x, labels = _tensors(*host)
    harness.synchronize(step(x[:64], labels[:64]))
    yield
    harness.synchronize(step(x, labels))
    del host


def _batch(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy classes of four; all kinds of pairs are among their hard pairs."""
    rng = np.random.default_rng(0)
    labels = np.arange(batch) // SAMPLES_PER_CLASS
    x = rng.standard_normal((batch, DIMENSION), np.float32)
    # In place, for the peak memory to be that of the result.
    x *= 0.5
    for start in range(0, batch, SAMPLES_PER_CLASS):
        center = rng.standard_normal(DIMENSION, np.float32)
        # Most directions are shared: some negative pairs are as near as 0.5.
        center[: DIMENSION // 2] = 1.0
        x[start : start + SAMPLES_PER_CLASS] += center
    return x, labels


def _tensors(*arrays: np.ndarray) -> tuple[Any, ...]:
    from keras import ops

    return tuple(ops.convert_to_tensor(array) for array in arrays)


def _value_and_gradient(loss: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Compile a function from embeddings and labels to the loss and its gradient."""
    backend = os.environ["KERAS_BACKEND"]
    if backend == "jax":
        import jax

        return harness.compiled(jax.value_and_grad(lambda x, labels: loss(labels, x)))
    if backend == "tensorflow":
        import tensorflow as tf

        def with_tape(x: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(labels, x)
            return value, tape.gradient(value, x)

        return harness.compiled(with_tape)

    import torch

    def eagerly(x: Any, labels: Any) -> Any:
        x = x.detach().requires_grad_()
        value = loss(labels, x)
        return value, torch.autograd.grad(value, x)

    return eagerly


if __name__ == "__main__":
    harness.run(__doc__, "loss", measure)
