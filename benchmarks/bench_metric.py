"""Time what the OPIS metric adds to a training step.

`OPIS.update_state` against the product of a batch with the memory, training steps of
the demo's model with and without the metric, and `OPIS.result` once an epoch.

    python benchmarks/bench_metric.py --backend torch
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import harness
import numpy as np
from harness import Measurement

MEMORY_SIZE = 8192
# Samples of a batch of the demo.
BATCH = 128
# Its embeddings.
EMBEDDING_DIM = 64


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    memory_size = 1024 if is_quick else MEMORY_SIZE
    batch = BATCH
    for dimension in [EMBEDDING_DIM] if is_quick else [64, 512]:
        yield from of_update(memory_size, batch, dimension, is_quick)
    yield from of_training(memory_size, batch, is_quick)


def of_update(
    memory_size: int, batch: int, dimension: int, is_quick: bool
) -> Iterator[Measurement]:
    """Time an update, compiled as in training, against a product with the memory."""
    from keras import ops

    import keras_tcm

    memory, labels = map(
        ops.convert_to_tensor, harness.clustered(memory_size, dimension, 0)
    )
    rows, row_labels = memory[:batch], labels[:batch]
    metric = keras_tcm.OPIS(memory_size=memory_size)
    metric.update_state(labels, memory)
    product = harness.compiled(lambda x, y: ops.matmul(x, ops.transpose(y)))
    times = harness.time_in_turn(
        {
            "update_state": harness.timed(_updater(metric), row_labels, rows),
            "batch x memory": harness.timed(product, rows, memory),
        },
        is_quick,
    )
    parameters: dict[str, int | str] = {
        "batch": batch,
        "memory": memory_size,
        "d": dimension,
    }
    flop = 2.0 * batch * memory_size * dimension
    yield Measurement("update_state", parameters, times["update_state"])
    yield Measurement("batch x memory", parameters, times["batch x memory"], flop)


def of_training(memory_size: int, batch: int, is_quick: bool) -> Iterator[Measurement]:
    """Time training steps of the demo without and with the metric, and its result.

    The memory is full. The first step of an epoch computes the metric of its batch; at
    the end of an epoch the result goes through all pairs.
    """
    import keras

    import keras_tcm
    from keras_tcm.study import training

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 28, 28, 1)).astype("float32")
    labels = np.arange(batch) // training.SAMPLES_PER_CLASS

    def model(metrics: list[Any]) -> Any:
        keras.utils.set_random_seed(0)
        backbone = keras_tcm.models.backbone("resnet_small", images.shape[1:])
        model = keras_tcm.models.embedding_model(backbone, EMBEDDING_DIM)
        # XLA makes convolutions on a CPU several times slower.
        is_compiled = False if keras.backend.backend() == "tensorflow" else "auto"
        loss = keras_tcm.losses.MultiSimilarity() + keras_tcm.TCM()
        model.compile("adam", loss=loss, metrics=metrics, jit_compile=is_compiled)
        return model

    # Sets that take turns, for all samples to be new.
    data = [harness.clustered(memory_size, EMBEDDING_DIM, seed) for seed in range(2)]
    full = keras_tcm.OPIS(memory_size=memory_size)

    def of_epoch(round_number: int) -> float:
        x, y = data[round_number % 2]
        full.reset_state()
        full.update_state(y, x)
        return harness.timed(full.result)(round_number)

    with_metric = model([keras_tcm.OPIS(memory_size=memory_size)])
    first_with_metric = model([keras_tcm.OPIS(memory_size=memory_size)])
    with_metric.train_on_batch(images, labels)
    # It begins an epoch anew each time, unless it cannot.
    with_metric.reset_metrics = lambda: None
    times = harness.time_in_turn(
        {
            "step": harness.timed(model([]).train_on_batch, images, labels),
            "step with metric": harness.timed(
                with_metric.train_on_batch, images, labels
            ),
            "first step with metric": harness.timed(
                first_with_metric.train_on_batch, images, labels
            ),
        },
        is_quick,
    )
    # Apart from the steps, whose caches it would empty.
    times |= harness.time_in_turn({"result of an epoch": of_epoch}, is_quick)
    parameters: dict[str, int | str] = {"batch": batch, "memory": memory_size}
    for what, seconds in times.items():
        flop = None
        if what == "result of an epoch":
            flop = 1.0 * memory_size**2 * EMBEDDING_DIM
        yield Measurement(what, parameters, seconds, flop)


def _updater(metric: Any) -> Callable[[Any, Any], Any]:
    """Compile an update as the trainers do: on JAX, it may overwrite the old state."""
    if os.environ["KERAS_BACKEND"] != "jax":
        return harness.compiled(metric.update_state)
    import jax

    update = jax.jit(metric.stateless_update_state, donate_argnums=0)
    state = [[variable.value + 0 for variable in metric.variables]]

    def step(labels: Any, embeddings: Any) -> Any:
        state[0] = update(state[0], labels, embeddings)
        return state[0]

    return step


if __name__ == "__main__":
    harness.run(__doc__, "metric", measure)
