"""Time a training step of the demo where glibc keeps the memory that is freed.

    python benchmarks/bench_allocator.py --backend tensorflow

The variables of the environment are those that the demo, the workers of a study and the
tests start with. Trainings without and with them alternate, each in a fresh process.
Page faults are those of a step, the median; the peak is that of the whole process.
"""

import os
import resource
import time
from collections.abc import Iterator

import harness
import numpy as np
from harness import Measurement

# The demo's images and batches.
SHAPE = (28, 28, 1)
BATCH = 128
CLASSES = 64
PER_CLASS = 16
ROUNDS = 2
# Both multiples of 8, as trainings are.
STEPS = 16
WARM_UP = 8


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield the steps without and with the variables."""
    from keras_tcm.study.workers import ALLOCATOR

    # Whatever this process was started with: it hands on its environment.
    for name in ALLOCATOR:
        os.environ.pop(name, None)
    environments = {"default": {}, "memory kept": ALLOCATOR}
    found: dict[str, list[tuple[list[float], list[int], int]]] = {}
    for number in range(1 if is_quick else ROUNDS):
        # Nobody is always the one who comes after the same other.
        for allocator in sorted(environments, reverse=bool(number % 2)):
            with harness.Worker(environments[allocator]) as worker:
                found.setdefault(allocator, []).append(worker.call(_train))
    for allocator, rounds in found.items():
        seconds, faults, peaks = zip(*rounds, strict=True)
        yield Measurement(
            "step",
            {"allocator": allocator, "batch": BATCH},
            tuple(float(f"{one:.6g}") for some in seconds for one in some),
            values={
                "page_faults": float(np.median(np.concatenate(faults))),
                "peak_mib": max(peaks) / 2**20,
            },
        )


def _train() -> tuple[list[float], list[int], int]:
    """Train as the demo does; seconds and page faults of each step, and the peak."""
    import keras

    from keras_tcm.losses import SmoothAP
    from keras_tcm.study.training import train_embedding_model

    ends: list[tuple[float, int]] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            ends.append((time.perf_counter(), usage.ru_minflt))

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (CLASSES * PER_CLASS, *SHAPE)).astype("uint8")
    y = np.repeat(np.arange(CLASSES), PER_CLASS)
    train_embedding_model(
        x, y, SmoothAP(), STEPS, 0, batch_size=BATCH, callbacks=[Watch()]
    )
    times, faults = zip(*ends[WARM_UP - 1 :], strict=True)
    return np.diff(times).tolist(), np.diff(faults).tolist(), harness.peak_bytes()


if __name__ == "__main__":
    harness.run(__doc__, "allocator", measure)
