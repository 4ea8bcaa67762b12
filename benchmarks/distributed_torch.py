"""Train in one process and in two of `torch.distributed`; count what they exchange.

KERAS_BACKEND=torch python benchmarks/distributed_torch.py

Prints how far apart the weights end, and the bytes and the time of a loss.
"""

import multiprocessing
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import keras
import numpy as np
import torch
from torch import distributed

import keras_tcm

PROCESSES = 2
# Of the loss that is measured: the global batch, the dimension, the repetitions.
BATCH, DIMENSION, ROUNDS = 1024, 512, 7


def train(num_processes: int, rank: int) -> tuple[np.ndarray, dict[str, float]]:
    """Train on this process's share; return the weights and the logs."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(32), 16)
    x = (rng.normal(size=(32, 64))[y] + rng.normal(size=(512, 64))).astype("float32")
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128, "relu")])
    model = keras_tcm.models.embedding_model(backbone, embedding_dim=32)
    # Keras 3.16 does this by itself; in a single process it changes nothing.
    keras_tcm.distribution.data_parallel(model)
    model.compile(
        keras.optimizers.Adam(0.001),
        loss=keras_tcm.losses.MultiSimilarity() + 0.5 * keras_tcm.TCM(),
        metrics=[keras_tcm.OPIS(), keras_tcm.metrics.RecallAtK(1)],
    )
    batches = keras_tcm.data.ClassBalancedSampler(
        x,
        y,
        classes_per_batch=16 // num_processes,
        samples_per_class=4,
        seed=0,
        num_processes=num_processes,
        process_id=rank,
    )
    # In the order of the sampler, so that all processes are at the same step.
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    weights = np.concatenate([np.ravel(w) for w in model.get_weights()])
    return weights, {name: values[-1] for name, values in history.items()}


def count_bytes(step: Callable[[], Any]) -> dict[str, int]:
    """Bytes of the results of the collective calls of a step, by kind."""
    counts = {"all_gather": 0, "all_reduce": 0}
    all_gather, all_reduce = distributed.all_gather, distributed.all_reduce

    def counting_gather(parts: list[torch.Tensor], x: torch.Tensor) -> None:
        counts["all_gather"] += sum(part.nbytes for part in parts)
        all_gather(parts, x)

    def counting_reduce(x: torch.Tensor) -> None:
        counts["all_reduce"] += x.nbytes
        all_reduce(x)

    distributed.all_gather, distributed.all_reduce = counting_gather, counting_reduce
    step()
    distributed.all_gather, distributed.all_reduce = all_gather, all_reduce
    return counts


def loss_step(gather: bool) -> Callable[[], None]:
    """Value and gradient of a loss on this process's part of the batch."""
    labels = torch.arange(BATCH // PROCESSES) // 4
    embeddings = torch.randn(BATCH // PROCESSES, DIMENSION, requires_grad=True)
    loss = keras_tcm.losses.MultiSimilarity(gather=gather) + keras_tcm.TCM(
        gather=gather
    )

    def step() -> None:
        loss(labels, embeddings).backward()

    return step


def median_seconds(steps: list[Callable[[], None]]) -> list[float]:
    """Median time of each step, taken in turn."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for step, own in zip(steps, times, strict=True):
            distributed.barrier()
            start = time.perf_counter()
            step()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def work(rank: int, store: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    one, logs = train(1, 0) if rank == 0 else (np.zeros(0), {})
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(minutes=10),
    )
    many, logs_of_many = train(PROCESSES, rank)
    gathering, local = loss_step(gather=True), loss_step(gather=False)
    counts = count_bytes(gathering)
    seconds = median_seconds([gathering, local])
    if rank == 0:
        print(f"largest difference of a weight: {np.abs(one - many).max():.1e}")
        for name, value in logs.items():
            other = logs_of_many[name]
            print(f"{name}: {value:.6f} in 1 process, {other:.6f} in {PROCESSES}")
        print(f"MultiSimilarity() + TCM(), {BATCH} samples, d={DIMENSION}: {counts}")
        print(f"seconds: {seconds[0]:.4f} gathering, {seconds[1]:.4f} of local pairs")
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    """Start the processes."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = str(pathlib.Path(folder) / "store")
        processes = [
            context.Process(target=work, args=(rank, store))
            for rank in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
