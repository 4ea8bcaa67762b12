"""Time of `Matcher.match` against the range search of faiss alone, and its memory.

    python benchmarks/bench_matcher.py --backend jax

As in `bench_evaluation.py`, faiss runs as it is or with another OPENBLAS_CORETYPE,
whichever is faster, in a process of its own.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from typing import Any

import bench_evaluation
import harness
import numpy as np
from harness import Measurement

DIMENSION = 512
NUM_QUERIES = 1000
# Samples that the threshold is chosen on.
CHOSEN_ON = 4000
# Sets of queries, which the rounds take in turn.
NUM_SETS = 10


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    core_type = bench_evaluation.faster_core_type()
    environment = {} if core_type == "own" else {"OPENBLAS_CORETYPE": core_type}
    with harness.Worker(environment) as worker:
        for size in [600] if is_quick else [10_000, 100_000]:
            yield from against_faiss(size, worker, is_quick)
    size = 600 if is_quick else 100_000
    peak = harness.peak_bytes_over_inputs(_match_steps, size)
    yield Measurement("match memory", {"n": size}, peak_bytes=peak)


def against_faiss(
    size: int, worker: harness.Worker, is_quick: bool
) -> Iterator[Measurement]:
    """Time both on the same gallery, and yield how many matches a query has."""
    matcher, similarity = _filled(size)
    num_queries = min(NUM_QUERIES, size)

    def match(seed: int) -> float:
        return harness.timed(matcher.match, _queries(size, num_queries, seed))(seed)

    times = harness.time_in_turn(
        {
            "match": match,
            "range_search": functools.partial(
                worker.call, _search, size, num_queries, similarity
            ),
        },
        is_quick,
    )
    flop = 2.0 * num_queries * size * DIMENSION
    found = sum(map(len, matcher.match(_queries(size, num_queries, 0))))
    for what, seconds in times.items():
        parameters: dict[str, int | str] = {"n": size, "queries": num_queries}
        one = Measurement(what, parameters, seconds, flop)
        yield dataclasses.replace(one, values={"matches": found / num_queries})


@functools.lru_cache(1)
def _samples(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A gallery, and queries after it; and the labels of all."""
    return harness.clustered(size + NUM_SETS * NUM_QUERIES, DIMENSION, 0)


def _filled(size: int) -> tuple[Any, float]:
    """A matcher with so many embeddings, and the cosine similarity of a match."""
    import keras_tcm

    embeddings, labels = _samples(size)
    some = slice(None, CHOSEN_ON)
    threshold = keras_tcm.choose_threshold(
        embeddings[some], labels[some], far=0.0001, confidence=0.9, verbose=False
    )
    matcher = keras_tcm.Matcher(threshold)
    matcher.add(np.arange(size), embeddings[:size])
    return matcher, threshold.similarity


def _queries(size: int, number: int, seed: int) -> np.ndarray:
    first = size + seed % NUM_SETS * NUM_QUERIES
    return _samples(size)[0][first : first + number]


def _search(size: int, number: int, similarity: float, seed: int) -> float:
    """Seconds in which faiss finds all within the threshold."""
    index = _index(size)
    start = time.perf_counter()
    queries = _queries(size, number, seed)
    # The matcher does it too.
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    index.range_search(queries, similarity)
    return time.perf_counter() - start


@functools.lru_cache(1)
def _index(size: int) -> Any:
    import faiss

    vectors = _samples(size)[0][:size].copy()
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    return index


def _match_steps(size: int) -> Iterator[None]:
    matcher, _ = _filled(size)
    queries = _queries(size, min(NUM_QUERIES, size), 0)
    # The gallery is on the device from here on.
    matcher.match(queries[:1])
    yield
    matcher.match(queries)


if __name__ == "__main__":
    # Read when faiss is loaded: a value from outside would decide for both runs.
    os.environ.pop("OPENBLAS_CORETYPE", None)
    harness.run(__doc__, "matcher", measure)
