"""Time and memory of the evaluation of all pairs, and of choosing a threshold.

`evaluate_embeddings` with everything that it returns, with and without Numba, against
the two nearest neighbours alone by faiss and against the bare matrix products;
`choose_threshold` for a FAR of 0.1% against `evaluate_embeddings`.

    python benchmarks/bench_evaluation.py --backend jax

`SIZES=20000,60000` in the environment chooses other numbers of samples.

The OpenBLAS inside faiss takes some processors for an old type and is several times
slower for it. So faiss runs as it is or with OPENBLAS_CORETYPE=SkylakeX, whichever is
faster, in a process of its own.
"""

import concurrent.futures.process
import functools
import os
import sys
import time
import unittest.mock
from collections.abc import Iterator
from typing import Any

import harness
import numpy as np
from harness import Measurement

DIMENSIONS = (128, 512)
BLOCK = 2048
# It takes long, and a user with more samples will install Numba. More samples than
# that tell nothing new about choosing a threshold either.
MAX_WITHOUT_NUMBA = 20000


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    asked = os.environ.get("SIZES", "5000,10000,20000,40000,60000")
    sizes = [400] if is_quick else [int(size) for size in asked.split(",")]
    memory_sizes = [size for size in sizes if size not in (10000, 40000)]
    core_type = faster_core_type()
    environment = {} if core_type == "own" else {"OPENBLAS_CORETYPE": core_type}
    with harness.Worker(environment) as worker:
        for dimension in DIMENSIONS:
            for size in sizes:
                for one in against_faiss(size, dimension, worker, is_quick):
                    if one.what == "faiss":
                        one.parameters["core_type"] = core_type
                    yield one
    for size in memory_sizes:
        peak = harness.peak_bytes_over_inputs(_evaluation_steps, size, DIMENSIONS[-1])
        parameters: dict[str, int | str] = {"n": size, "d": DIMENSIONS[-1]}
        yield Measurement("evaluation memory", parameters, peak_bytes=peak)


def against_faiss(
    size: int, dimension: int, worker: harness.Worker, is_quick: bool
) -> Iterator[Measurement]:
    """Time the evaluation, faiss and the bare products on the same embeddings.

    The embeddings of each round have the round's number as their seed.
    """

    def evaluation(with_numba: bool) -> harness.Candidate:
        def candidate(seed: int) -> float:
            embeddings, labels = harness.clustered(size, dimension, seed)
            return harness.timed(_evaluate, embeddings, labels, with_numba)(seed)

        return candidate

    def products(seed: int) -> float:
        blocks = _blocks(size, dimension, seed)
        return harness.timed(_multiply, blocks)(seed)

    def choice(seed: int) -> float:
        embeddings, labels = harness.clustered(size, dimension, seed)
        return harness.timed(_choose, embeddings, labels)(seed)

    candidates = {
        "evaluation": evaluation(with_numba=True),
        "choose_threshold": choice,
        "evaluation without Numba": evaluation(with_numba=False),
        "products of each pair once": products,
        "faiss": functools.partial(worker.call, _search, size, dimension),
    }
    if size > MAX_WITHOUT_NUMBA:
        del candidates["evaluation without Numba"], candidates["choose_threshold"]
    for what, seconds in harness.time_in_turn(candidates, is_quick).items():
        # faiss does not know that both ends are the same samples.
        flop = (2.0 if what == "faiss" else 1.0) * size**2 * dimension
        yield Measurement(what, {"n": size, "d": dimension}, seconds, flop)


def faster_core_type() -> str:
    """The processor type for OpenBLAS with which faiss is faster."""
    seconds = {}
    for core_type in "own", "SkylakeX":
        environment = {} if core_type == "own" else {"OPENBLAS_CORETYPE": core_type}
        with harness.Worker(environment) as worker:
            try:
                # The second call: the first one builds the index and warms up.
                seconds[core_type] = [
                    worker.call(_search, 4000, DIMENSIONS[-1], 0) for _ in range(2)
                ][-1]
            except concurrent.futures.process.BrokenProcessPool:
                print(f"faiss does not run as {core_type} here.", file=sys.stderr)
    return min(seconds, key=seconds.__getitem__)


def _evaluate(embeddings: np.ndarray, labels: np.ndarray, with_numba: bool) -> None:
    import keras_tcm

    # Python takes a module that is None for one that is not installed.
    hidden = {} if with_numba else {"numba": None}
    with unittest.mock.patch.dict(sys.modules, hidden):
        keras_tcm.evaluate_embeddings(embeddings, labels, verbose=False)


def _choose(embeddings: np.ndarray, labels: np.ndarray) -> None:
    import keras_tcm

    keras_tcm.choose_threshold(embeddings, labels, far=0.001, verbose=False)


@functools.lru_cache(1)
def _blocks(size: int, dimension: int, seed: int) -> list[Any]:
    from keras import ops

    embeddings, _ = harness.clustered(size, dimension, seed)
    return [
        ops.convert_to_tensor(embeddings[start : start + BLOCK])
        for start in range(0, size, BLOCK)
    ]


def _multiply(blocks: list[Any]) -> None:
    from keras import ops

    for i, rows in enumerate(blocks):
        transposed = ops.transpose(rows)
        for others in blocks[i:]:
            harness.synchronize(ops.matmul(others, transposed))


def _search(size: int, dimension: int, seed: int) -> float:
    """Seconds in which faiss finds the two nearest neighbours of each sample."""
    index, vectors = _index(size, dimension, seed)
    start = time.perf_counter()
    index.search(vectors, 2)
    return time.perf_counter() - start


@functools.lru_cache(1)
def _index(size: int, dimension: int, seed: int) -> Any:
    import faiss

    vectors = harness.clustered(size, dimension, seed)[0].copy()
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(dimension)
    index.add(vectors)
    return index, vectors


def _evaluation_steps(size: int, dimension: int) -> Iterator[None]:
    embeddings, labels = harness.clustered(size, dimension, 0)
    _evaluate(embeddings[:64], labels[:64] % 8, with_numba=True)
    yield
    _evaluate(embeddings, labels, with_numba=True)


if __name__ == "__main__":
    # Read when faiss is loaded: a value from outside would decide for both runs.
    os.environ.pop("OPENBLAS_CORETYPE", None)
    harness.run(__doc__, "evaluation", measure)
