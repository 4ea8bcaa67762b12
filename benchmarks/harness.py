"""What the benchmarks share: timing, peak memory, fresh processes and results.

Candidates that are compared are timed in turn, round after round, in one run, so that
whatever else the machine does falls on all of them; only the ratios of their medians
mean anything.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import sys
import time
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
_PACKAGES = (
    "keras",
    "numpy",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "faiss-cpu",
    "numba",
    "pytorch-metric-learning",
)
# A comparison runs for at least this many rounds, and for this many seconds.
_MIN_ROUNDS = 3
_MAX_ROUNDS = 100
_SECONDS = 10.0
# Side of the square matrices whose product shows what the machine can do.
_RATE_SIDE = 2048

Candidate = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of one candidate at one size.

    Attributes:
        what: Name of the candidate.
        parameters: What distinguishes it from others of that name.
        seconds: Duration of each round.
        flop: Floating-point operations that it cannot do without.
        peak_bytes: Peak resident memory beyond that of its inputs.
        values: Anything else, by name.
    """

    what: str
    parameters: dict[str, int | str] = dataclasses.field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    flop: float | None = None
    peak_bytes: int | None = None
    values: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float | None:
        """Median of the seconds."""
        return float(np.median(self.seconds)) if self.seconds else None

    @property
    def spread(self) -> float | None:
        """Distance between the quartiles of the seconds, in medians."""
        if not self.seconds:
            return None
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75))
        return float((high - low) / middle)


@dataclasses.dataclass(frozen=True)
class Results:
    """What one benchmark measured on one backend.

    Attributes:
        topic: The benchmark, `bench_{topic}.py`.
        backend: Name of the backend.
        is_quick: Whether the sizes were too small to mean anything.
        machine: What it ran on.
        versions: Versions of the packages by name.
        measurements: What was measured.
    """

    topic: str
    backend: str
    is_quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    measurements: tuple[Measurement, ...]

    @property
    def command(self) -> str:
        """The command that measures this."""
        quick = " --quick" if self.is_quick else ""
        return (
            f"python benchmarks/bench_{self.topic}.py --backend {self.backend}{quick}"
        )

    def find(self, what: str, **parameters: int | str) -> Measurement | None:
        """The measurement of that name and those parameters, if there is one."""
        for measurement in self.measurements:
            own = measurement.parameters
            if measurement.what == what and parameters.items() <= own.items():
                return measurement
        return None

    def table(self) -> str:
        """Format the measurements as a Markdown table."""
        rows = []
        for one in self.measurements:
            gigaflops = None
            if one.flop is not None and one.median:
                gigaflops = one.flop / one.median / 1e9
            rows.append(
                [
                    one.what,
                    " ".join(f"{k}={v}" for k, v in one.parameters.items()),
                    _format(one.median, 1e3, ".2f"),
                    _format(one.spread, 100, ".0f", "%"),
                    str(len(one.seconds) or ""),
                    _format(gigaflops, 1, ".3g"),
                    _format(one.peak_bytes, 2**-20, ".0f"),
                    " ".join(f"{k}={v:.3g}" for k, v in one.values.items()),
                ]
            )
        header = "what|parameters|ms|spread|rounds|GFLOP/s|MiB over inputs|values"
        return markdown_table(header.split("|"), rows)

    def save(self, folder: pathlib.Path) -> pathlib.Path:
        """Write `{topic}-{backend}.json` to a folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.topic}-{self.backend}.json"
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        """Read what `save` wrote."""
        content = json.loads(path.read_text())
        measurements = tuple(
            Measurement(**{**one, "seconds": tuple(one["seconds"])})
            for one in content.pop("measurements")
        )
        return cls(measurements=measurements, **content)


def _format(value: float | None, factor: float, style: str, unit: str = "") -> str:
    return "" if value is None else f"{value * factor:{style}}{unit}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with its first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = [
        "-" * max(width - 1, 2) + (":" if i else "-") for i, width in enumerate(widths)
    ]
    return "\n".join([line(header), line(rule), *map(line, rows)])


# ------------------------------------------------------------------------------- timing


def timed(function: Callable[..., Any], *args: Any) -> Candidate:
    """Make a candidate of a function whose result the backend may compute later."""

    def candidate(round_number: int) -> float:
        start = time.perf_counter()
        synchronize(function(*args))
        return time.perf_counter() - start

    return candidate


def time_in_turn(
    candidates: dict[str, Candidate], is_quick: bool, seconds: float = _SECONDS
) -> dict[str, tuple[float, ...]]:
    """Time candidates in turn, after one call of each that does not count.

    Args:
        candidates: By name. A candidate gets the number of the round, from which it
            may make its data, and returns the seconds that it took.
        is_quick: Whether one round is enough.
        seconds: Rounds go on for so long, if there are neither fewer than 3 nor more
            than 100 of them.

    Returns:
        The seconds of each round, by name.
    """
    for candidate in candidates.values():
        candidate(0)
    least, most = (1, 1) if is_quick else (_MIN_ROUNDS, _MAX_ROUNDS)
    rounds: list[dict[str, float]] = []
    start = time.perf_counter()
    while len(rounds) < least or (
        len(rounds) < most and time.perf_counter() - start < seconds
    ):
        # Nobody is always the one who comes after the same other.
        order = list(candidates)
        if len(rounds) % 2:
            order.reverse()
        rounds.append({name: candidates[name](len(rounds)) for name in order})
    return {
        name: tuple(float(f"{one[name]:.6g}") for one in rounds) for name in candidates
    }


def synchronize(tensors: Any) -> None:
    """Wait until the backend has computed the tensors."""
    backend = os.environ["KERAS_BACKEND"]
    if backend == "jax":
        import jax

        jax.block_until_ready(tensors)
    elif backend == "tensorflow":
        import tensorflow as tf

        # On a CPU, calls return when all is computed.
        if tf.config.list_physical_devices("GPU"):
            tf.test.experimental.sync_devices()
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with XLA on JAX and TensorFlow; torch runs eagerly."""
    backend = os.environ["KERAS_BACKEND"]
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def _matrix_product_rate(is_quick: bool, when: str) -> Measurement:
    """Time the product of two square matrices: what the machine can do."""
    from keras import ops

    x = np.random.default_rng(0).standard_normal((_RATE_SIDE, _RATE_SIDE), np.float32)
    product = timed(compiled(ops.matmul), *map(ops.convert_to_tensor, (x, x)))
    times = time_in_turn({"product": product}, is_quick, 3.0)
    return Measurement(
        "matrix product", {"when": when}, times["product"], 2.0 * _RATE_SIDE**3
    )


# --------------------------------------------------------------------- fresh processes


class Worker:
    """A fresh process that keeps what it has imported and cached between calls.

    Args:
        environment: Variables to start it with.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._pool = concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        )
        # The first call starts the process.
        with unittest.mock.patch.dict(os.environ, environment or {}):
            self.call(int)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of a module in the process.

        Raises:
            concurrent.futures.process.BrokenProcessPool: If the process dies.
        """
        return self._pool.submit(function, *args).result()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._pool.shutdown()


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # On Linux, ru_maxrss starts from the size of the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_bytes_over_inputs(steps: Callable[..., Iterator[None]], *args: Any) -> int:
    """Peak memory of what a generator does after its `yield`.

    It runs twice, in fresh processes, once up to the `yield` and once to the end; the
    difference counts.

    Args:
        steps: Makes the inputs, loads everything with a tiny call, yields, and does
            what is to be measured. It must keep its inputs until the end.
        *args: Its arguments.
    """
    peaks = []
    for is_measured in (False, True):
        with Worker() as worker:
            peaks.append(worker.call(_peak_of, steps, args, is_measured))
    return peaks[1] - peaks[0]


def _peak_of(
    steps: Callable[..., Iterator[None]], args: tuple[Any, ...], is_measured: bool
) -> int:
    running = steps(*args)
    next(running)
    if is_measured:
        next(running, None)
    return peak_bytes()


# --------------------------------------------------------------------------------- data


@functools.lru_cache(1)
def clustered(size: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in classes as many and as small as in Stanford Online Products.

    Its test set has 5.3 images in a class, 2 to 12. Classes lie in a space of 32
    dimensions, differ in spread and overlap, so that there are mistakes to rank.

    Returns:
        Embeddings `(size, dimension)`, float32, and labels `(size,)`, int64, in random
        order.
    """
    embeddings = np.empty((size, dimension), np.float32)
    return embeddings, fill_clustered(embeddings, seed)


def fill_clustered(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Fill an array, which may be a `numpy.memmap`, as `clustered` does.

    Returns:
        The labels.
    """
    size, dimension = embeddings.shape
    rng = np.random.default_rng(seed)
    sizes = 2 + rng.binomial(10, 0.33, size=size // 2)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[:size])
    centers = rng.standard_normal((len(sizes), 32), np.float32)
    spreads = rng.uniform(0.4, 1.0, len(sizes)).astype(np.float32)
    basis = rng.standard_normal((32, dimension), np.float32)
    # In blocks: the peak memory of the inputs must be that of the result.
    for start in range(0, size, 8192):
        rows = labels[start : start + 8192]
        latent = rng.standard_normal((len(rows), 32), np.float32)
        latent = centers[rows] + spreads[rows, None] * latent
        noise = rng.standard_normal((len(rows), dimension), np.float32)
        embeddings[start : start + 8192] = latent @ basis + noise
    return labels


# ---------------------------------------------------------------------- command and run


def run(
    description: str, topic: str, measure: Callable[[bool], Iterator[Measurement]]
) -> None:
    """Run a benchmark from the command line, each backend in a process of its own.

    Args:
        description: Text for `--help`.
        topic: The script is `bench_{topic}.py`.
        measure: Function of a module that yields what it measures; its argument tells
            whether small sizes are wanted.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="sizes for a smoke test")
    parser.add_argument("--backend", choices=(*BACKENDS, "all"), default="all")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parent / "results",
        metavar="DIR",
        help="folder for TOPIC-BACKEND.json (default: benchmarks/results)",
    )
    args = parser.parse_args()
    for backend in BACKENDS if args.backend == "all" else (args.backend,):
        environment = {
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }
        with Worker(environment) as worker:
            results = worker.call(_measure_all, topic, measure, backend, args.quick)
        print(f"\n{results.command}\n\n{results.table()}", flush=True)
        print(f"\nWrote {results.save(args.out)}", flush=True)


def _measure_all(
    topic: str,
    measure: Callable[[bool], Iterator[Measurement]],
    backend: str,
    is_quick: bool,
) -> Results:
    measurements = [_matrix_product_rate(is_quick, "before")]
    for measurement in measure(is_quick):
        print(f"[{backend}] {measurement.what} {measurement.parameters}", flush=True)
        measurements.append(measurement)
    measurements.append(_matrix_product_rate(is_quick, "after"))
    return Results(
        topic, backend, is_quick, _machine(), _versions(), tuple(measurements)
    )


def _machine() -> dict[str, str]:
    import psutil

    processor = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
