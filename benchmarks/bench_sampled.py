"""Time and honesty of the evaluation of a sample of the pairs.

How long `evaluate_embeddings(..., max_pairs=...)` takes for a million samples, and how
often what all pairs give lies within the stated standard errors.

    python benchmarks/bench_sampled.py --backend jax
"""

import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import harness
import numpy as np
from harness import Measurement

DIMENSION = 512


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield all measurements."""
    if is_quick:
        yield from of_large_set(4000, [400_000], is_quick)
        yield from coverage(1000, 100_000, 3)
    else:
        yield from of_large_set(1_000_000, [10**8, 10**9], is_quick)
        yield from coverage(60_000, 10**8, 100)


def of_large_set(
    size: int, numbers_of_pairs: list[int], is_quick: bool
) -> Iterator[Measurement]:
    """Time the evaluation of memory-mapped embeddings, and give its standard errors.

    A pair counts once for the rates and once for the neighbours; either needs its
    similarity.
    """
    import keras_tcm

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "embeddings"
        shape = (size, DIMENSION)
        embeddings = np.memmap(path, np.float32, "w+", shape=shape)
        labels = harness.fill_clustered(embeddings, 0)
        embeddings.flush()
        for max_pairs in numbers_of_pairs:
            times, standard_errors = [], {}
            # Each takes long: two rounds, and the first warms up for none but itself.
            for seed in range(1 if is_quick else 2):
                start = time.perf_counter()
                result = keras_tcm.evaluate_embeddings(
                    embeddings, labels, max_pairs=max_pairs, seed=seed, verbose=False
                )
                times.append(time.perf_counter() - start)
                standard_errors = result.standard_errors
            yield Measurement(
                "sampled evaluation",
                {"n": size, "d": DIMENSION, "max_pairs": max_pairs},
                tuple(times),
                flop=2.0 * max_pairs * DIMENSION,
                values={
                    "opis": result.opis,
                    **{f"{name}_error": e for name, e in standard_errors.items()},
                },
            )
        del embeddings


def coverage(size: int, max_pairs: int, repetitions: int) -> Iterator[Measurement]:
    """Compare estimates with what all pairs give, over samples of the same set.

    Yields one measurement for each score, with the values

    - `coverage`: share of the samples whose 95% interval (1.96 standard errors to
      either side) has the value of all pairs in it; it should be 0.95;
    - `bias`: mean deviation of the estimates, in units of their spread; its own
      standard error is one over the square root of the repetitions;
    - `stated_over_spread`: stated standard errors (root mean square) over the standard
      deviation of the estimates; it should be 1;
    - `relative_error`: stated standard error over the value of all pairs.

    Args:
        size: Number of samples.
        max_pairs: Pairs that each estimate compares.
        repetitions: Number of samples of pairs.
    """
    import keras_tcm

    embeddings, labels = harness.clustered(size, DIMENSION, 0)
    truth, _ = _scores(keras_tcm.evaluate_embeddings(embeddings, labels, verbose=False))
    estimates, errors, times = [], [], []
    for seed in range(repetitions):
        start = time.perf_counter()
        result = keras_tcm.evaluate_embeddings(
            embeddings, labels, max_pairs=max_pairs, seed=seed, verbose=False
        )
        times.append(time.perf_counter() - start)
        values, own_errors = _scores(result)
        estimates.append([values[name] for name in own_errors])
        errors.append(list(own_errors.values()))
    exact = np.array([truth[name] for name in own_errors])
    deviations = np.array(estimates) - exact
    spread = deviations.std(axis=0, ddof=1)
    stated = np.sqrt(np.mean(np.square(errors), axis=0))
    is_inside = np.abs(deviations) < 1.96 * np.array(errors)
    for number, name in enumerate(own_errors):
        values = {
            "coverage": float(is_inside[:, number].mean()),
            "relative_error": float(stated[number] / exact[number]),
        }
        # A few repetitions of a small set may all give the same.
        if spread[number] > 0:
            values["bias"] = float(deviations[:, number].mean() / spread[number])
            values["stated_over_spread"] = float(stated[number] / spread[number])
        yield Measurement(
            "coverage",
            {"score": name, "n": size, "d": DIMENSION, "max_pairs": max_pairs},
            tuple(times),
            values=values,
        )


def _scores(result: Any) -> tuple[dict[str, float], dict[str, float]]:
    """What an evaluation estimates and its standard errors, both by name."""
    values = {
        "opis": result.opis,
        "epsilon_opis": result.epsilon_opis,
        "eer": result.eer,
        "map_at_r": result.map_at_r,
        **{f"recall_at_{k}": value for k, value in result.recall.items()},
    }
    errors = dict(result.standard_errors or {})
    for point in result.operating_points:
        for name in "threshold", "frr":
            key = f"{name} at FAR {point.far_target:g}"
            values[key] = getattr(point, name)
            if point.standard_errors is not None:
                errors[key] = point.standard_errors[name]
    return values, errors


if __name__ == "__main__":
    harness.run(__doc__, "sampled", measure)
