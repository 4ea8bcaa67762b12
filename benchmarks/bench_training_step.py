"""Time one training step of a ResNet-50 alone, with TCM and with AutoTCM.

    python benchmarks/bench_training_step.py --backend tensorflow

The images are small, for the step to take seconds on a CPU; on larger ones the loss is
an even smaller part of it.
"""

from collections.abc import Iterator
from typing import Any

import harness
import numpy as np
from harness import Measurement

BATCH = 32
SAMPLES_PER_CLASS = 4
IMAGE_SIZE = 64
EMBEDDING_DIM = 512


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield the step for each loss; a small network stands in for `--quick`."""
    import keras_tcm

    rng = np.random.default_rng(0)
    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    x = rng.integers(0, 256, (BATCH, *shape)).astype("float32")
    labels = np.arange(BATCH) // SAMPLES_PER_CLASS
    base = keras_tcm.losses.MultiSimilarity
    losses = {
        "step": base(),
        "step + TCM": base() + keras_tcm.TCM(),
        "step with AutoTCM": keras_tcm.AutoTCM(base()),
    }
    models = {
        what: _compiled_model(shape, loss, is_quick) for what, loss in losses.items()
    }
    # `train_on_batch` returns numbers, and so waits for them.
    times = harness.time_in_turn(
        {
            what: harness.timed(model.train_on_batch, x, labels)
            for what, model in models.items()
        },
        is_quick,
        seconds=90.0,
    )
    for what, seconds in times.items():
        parameters: dict[str, int | str] = {"batch": BATCH, "image": IMAGE_SIZE}
        yield Measurement(what, parameters, seconds)


def _compiled_model(shape: tuple[int, int, int], loss: Any, is_quick: bool) -> Any:
    import keras

    import keras_tcm

    keras.utils.set_random_seed(0)
    if is_quick:
        backbone = keras_tcm.models.backbone("resnet_small", shape)
    else:
        backbone = keras.applications.ResNet50(
            include_top=False, weights=None, input_shape=shape
        )
    model = keras_tcm.models.embedding_model(backbone, EMBEDDING_DIM)
    # XLA makes convolutions on a CPU several times slower.
    is_compiled = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile("sgd", loss=loss, jit_compile=is_compiled)
    return model


if __name__ == "__main__":
    harness.run(__doc__, "training_step", measure)
