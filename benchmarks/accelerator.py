"""What the package does on a GPU: that it is right, then how long it takes.

    KERAS_BACKEND=jax python benchmarks/accelerator.py
    KERAS_BACKEND=torch python benchmarks/accelerator.py --only evaluation loss

Results are compared with those of the CPU first: a difference ends the run. It takes 8
minutes at most, and says what it had no time for. It needs the package, Keras, and JAX
or PyTorch, and compares with pytorch-metric-learning where that is installed. Without
a GPU it does all of it once, on few samples and small networks.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.util
import itertools
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import bench_autodiff
import bench_loss
import harness
import keras
import numpy as np
from keras import layers, ops

import keras_tcm
from keras_tcm import AutoTCM, evaluate_embeddings, losses
from keras_tcm.evaluation import full_precision
from keras_tcm.files import write_text

DIMENSION = 512
SECONDS = 480.0
# Of each candidate, if that takes no longer than so many seconds.
ROUNDS = 7
ROUND_SECONDS = 6.0
# Side of the tiles of the bare product of all pairs.
SIDE = 8192
# Up to here the plain formulas fit in one matrix.
LARGEST_MATRIX = 16384
PRECISION_SIZE = 6000
# Bits of the significands of float32 products where the inputs are rounded.
ROUNDED_BITS = {"TF32": 10, "bfloat16": 7}


class WrongResultError(Exception):
    """A device computes something else than the CPU."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        section: What was looked at: one of `SECTIONS`.
        what: Which candidate.
        size: Of which size, in words.
        milliseconds: Median of the rounds, if it is a time.
        ratio: Of that to the candidate which `against` names.
        against: See above.
        peak_mib: Peak memory of the device, where it tells and this is what needed
            most so far.
        note: Anything else, in words.
    """

    section: str
    what: str
    size: str
    milliseconds: float | None = None
    ratio: float | None = None
    against: str = ""
    peak_mib: float | None = None
    note: str = ""

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        times = "" if self.milliseconds is None else f"{self.milliseconds:.4g}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x {self.against}"
        peak = "" if self.peak_mib is None else f"{self.peak_mib:.0f}"
        return [self.section, self.what, self.size, times, ratio, peak, self.note]


HEADER = ["section", "what", "size", "ms", "ratio", "peak MiB", "note"]


# ----------------------------------------------------------------------------- devices


def card() -> str | None:
    """Name of the GPU that the backend computes on, or `None`."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    import jax

    (device,) = jax.numpy.zeros(()).devices()
    return device.device_kind if device.platform == "gpu" else None


def on_cpu() -> contextlib.AbstractContextManager:
    """Compute on the CPU inside a `with` block."""
    if keras.backend.backend() == "torch":
        return keras.device("cpu")
    import jax

    return jax.default_device(jax.devices("cpu")[0])


class Memory:
    """Peak memory of the device while something runs, where the device tells."""

    def __init__(self) -> None:
        self._highest = 0

    def of(self, function: Callable[[], Any]) -> float | None:
        """Run a function; return its peak in MiB, if it can be told."""
        if card() is None:
            function()
            return None
        if keras.backend.backend() == "torch":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            function()
            return torch.cuda.max_memory_allocated() / 2**20
        import jax

        (device,) = jax.numpy.zeros(()).devices()
        function()
        peak = device.memory_stats()["peak_bytes_in_use"]
        # JAX cannot forget an earlier peak.
        is_new, self._highest = peak > self._highest, max(peak, self._highest)
        return peak / 2**20 if is_new else None


@dataclasses.dataclass
class Run:
    """One run of this program.

    Attributes:
        is_small: Whether to do little, for want of a GPU.
        deadline: When to begin nothing new.
        memory: Tells the peak memory.
    """

    is_small: bool
    deadline: float
    memory: Memory = dataclasses.field(default_factory=Memory)

    def has_time_for(self, seconds: float) -> bool:
        """Whether there is time for something that takes so long."""
        return time.perf_counter() + seconds < self.deadline

    def time(self, function: Callable[[], Any]) -> tuple[float, float | None]:
        """Seconds, median of some rounds after one that does not count; peak MiB."""

        def once() -> float:
            start = time.perf_counter()
            harness.synchronize(function())
            return time.perf_counter() - start

        start = time.perf_counter()
        peak = self.memory.of(once)
        is_long = self.is_small or time.perf_counter() - start > ROUND_SECONDS
        rounds = 1 if is_long else ROUNDS
        return float(np.median([once() for _ in range(rounds)])), peak

    def compared(
        self, section: str, size: str, candidates: dict[str, Callable[[], Any]]
    ) -> Iterator[Row]:
        """Time candidates; the first is what the others are compared with."""
        against, first = "", None
        for what, function in candidates.items():
            if not self.has_time_for(0):
                yield Row(section, what, size, note="no time left")
                continue
            seconds, peak = self.time(function)
            ratio = None if first is None else seconds / first
            yield Row(section, what, size, 1e3 * seconds, ratio, against, peak)
            if first is None:
                against, first = what, seconds


# -------------------------------------------------------------------------- evaluation


def evaluation(run: Run) -> Iterator[Row]:
    """The evaluation of all pairs, against their bare products and the CPU's path."""
    sizes = (600, 1500) if run.is_small else (20_000, 60_000, 136_000, 1_000_000)
    yield from check_evaluation(600 if run.is_small else 20_000)
    seconds_per_pair = 0.0
    for size in sizes:
        what = f"N = {size:,}"
        # The bare product, and one evaluation more to see its memory.
        if not run.has_time_for(3.0 * seconds_per_pair * size**2):
            yield Row("evaluation", "all", what, note="no time left")
            continue
        embeddings, labels = harness.clustered(size, DIMENSION, 0)
        candidates = {
            "bare product": lambda x=embeddings: multiply_all(x),
            "counted on the device": lambda x=embeddings, y=labels: evaluate_embeddings(
                x, y, device="backend", verbose=False
            ),
        }
        if size <= 60_000:
            candidates["counted on the host"] = lambda x=embeddings, y=labels: (
                evaluate_embeddings(x, y, device="host", verbose=False)
            )
        start = time.perf_counter()
        yield from run.compared("evaluation", what, candidates)
        seconds_per_pair = (time.perf_counter() - start) / size**2 / 3.0


def check_evaluation(size: int) -> Iterator[Row]:
    """The counts of the host, from the same products; and the OPIS of the CPU's own."""
    embeddings, labels = harness.clustered(size, DIMENSION, 0)
    # The same tiles: products of others may be rounded otherwise.
    options = {"block_size": 2048, "verbose": False}
    on_device, on_host = (
        evaluate_embeddings(embeddings, labels, device=device, **options)
        for device in ("backend", "host")
    )
    if json.dumps(on_device.to_dict()) != json.dumps(on_host.to_dict()):
        raise WrongResultError(f"other counts than the host's, N = {size}")
    with on_cpu():
        expected = evaluate_embeddings(embeddings, labels, device="host", **options)
    difference = abs(on_device.opis / expected.opis - 1.0)
    if difference > 1e-6:
        raise WrongResultError(f"OPIS differs by {difference:.1e} from the CPU's")
    yield Row(
        *("evaluation", "check", f"N = {size:,}"),
        note=f"counts equal; OPIS differs by {difference:.1e} from the CPU's",
    )


def multiply_all(embeddings: np.ndarray) -> Any:
    """The products of all pairs, each once, and one number of each tile."""
    with full_precision():
        side = min(SIDE, len(embeddings))
        parts = [
            ops.convert_to_tensor(embeddings[start : start + side])
            for start in range(0, len(embeddings), side)
        ]
        largest = None
        for number, rows in enumerate(parts):
            for columns in parts[number:]:
                found = ops.matmul(rows, ops.transpose(columns))[0, 0]
                largest = found if largest is None else ops.maximum(largest, found)
        return largest


def precision(_: Run) -> Iterator[Row]:
    """What products of rounded inputs would change, by rounding the inputs here."""
    embeddings, labels = harness.clustered(PRECISION_SIZE, DIMENSION, 0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    exact = evaluate_embeddings(embeddings, labels, verbose=False)
    for name, bits in ROUNDED_BITS.items():
        result = evaluate_embeddings(rounded(embeddings, bits), labels, verbose=False)
        points = zip(exact.operating_points, result.operating_points, strict=True)
        moved = max(abs(a.threshold - b.threshold) for a, b in points)
        yield Row(
            *("precision", f"inputs rounded to {name}", f"N = {PRECISION_SIZE:,}"),
            note=f"OPIS {result.opis / exact.opis - 1:+.1e}, R@1 "
            f"{result.recall[1] - exact.recall[1]:+.1e}, thresholds move {moved:.1e}",
        )


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Round significands of float32 to so many bits after the first, half to even."""
    whole = values.view(np.uint32)
    dropped = np.uint32(23 - bits)
    one = np.uint32(1)
    half = (one << (dropped - one)) - one + ((whole >> dropped) & one)
    kept: np.ndarray = ((whole + half) >> dropped) << dropped
    return kept.view(np.float32)


# ------------------------------------------------------------------------------ losses


def loss(run: Run) -> Iterator[Row]:
    """Forward and backward, against the plain formulas and a peer."""
    yield from check_loss(256)
    batches = (256,) if run.is_small else (1024, 4096, 16384, 65536)
    for batch in batches:
        x, labels = bench_loss._tensors(*bench_loss._batch(batch))
        plain = {
            "plain TCM": bench_autodiff._plain(bench_autodiff._tcm),
            "plain MultiSimilarity + TCM": bench_autodiff._plain(
                bench_autodiff._tcm, bench_autodiff._multi_similarity
            ),
        }
        ours = {
            "TCM": losses.TCM(),
            "MultiSimilarity": losses.MultiSimilarity(),
            "MultiSimilarity + TCM": losses.MultiSimilarity() + losses.TCM(),
            "AutoTCM": AutoTCM(losses.MultiSimilarity()),
        }
        chosen = {**(plain if batch <= LARGEST_MATRIX else {}), **ours}
        candidates = {
            what: step_of(bench_loss._value_and_gradient(one), x, labels)
            for what, one in chosen.items()
        }
        half = ops.cast(x, "bfloat16")
        candidates["AutoTCM, bfloat16"] = step_of(
            bench_loss._value_and_gradient(ours["AutoTCM"]), half, labels
        )
        if keras.backend.backend() == "torch" and card() is not None:
            import torch

            compiled = torch.compile(ours["AutoTCM"])
            candidates["AutoTCM, torch.compile"] = step_of(
                bench_loss._value_and_gradient(compiled), x, labels
            )
        yield from run.compared("loss", f"B = {batch:,}", candidates)
        if batch == batches[0]:
            yield from peer(run, batch)


def step_of(function: Callable, x: Any, labels: Any) -> Callable[[], Any]:
    """A call without arguments."""
    return lambda: function(x, labels)


def check_loss(batch: int) -> Iterator[Row]:
    """Value and gradient of the CPU."""
    arrays = harness.clustered(batch, DIMENSION, 0)
    for what, one in (
        ("MultiSimilarity + TCM", losses.MultiSimilarity() + losses.TCM()),
        ("AutoTCM", AutoTCM(losses.MultiSimilarity())),
    ):
        found = []
        for place in (contextlib.nullcontext(), on_cpu()):
            with place, full_precision():
                step = bench_loss._value_and_gradient(one)
                outputs = step(*bench_loss._tensors(*arrays))
                found.append([*map(ops.convert_to_numpy, keras.tree.flatten(outputs))])
        (value, gradient), (expected, slopes) = found
        difference = max(
            float(abs(value / expected - 1.0)),
            float(np.abs(gradient - slopes).max() / np.abs(slopes).max()),
        )
        if difference > 1e-4:
            raise WrongResultError(f"{what} differs by {difference:.1e} from the CPU's")
        yield Row(
            *("loss", f"check of {what}", f"B = {batch:,}"),
            note=f"value and gradient differ by {difference:.1e} from the CPU's",
        )


def peer(run: Run, batch: int) -> Iterator[Row]:
    """The loss of pytorch-metric-learning, where that is installed."""
    if not importlib.util.find_spec("pytorch_metric_learning"):
        return
    import torch
    from pytorch_metric_learning import losses as peers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, labels = (
        torch.from_numpy(array).to(device) for array in bench_loss._batch(batch)
    )
    x.requires_grad_()
    tcm = peers.ThresholdConsistentMarginLoss()
    yield from run.compared(
        *("loss", f"B = {batch:,}"),
        {"pytorch-metric-learning": lambda: torch.autograd.grad(tcm(x, labels), x)},
    )


# ------------------------------------------------------------------------------- steps


def step(run: Run) -> Iterator[Row]:
    """A training step of two networks with TCM, over the base loss alone."""
    size, batch = (32, 8) if run.is_small else (224, 64)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (batch, size, size, 3)).astype("float32")
    labels = np.arange(batch) // 4
    for name, network in (("ResNet-50", resnet50), ("ViT-B/16", vit_base)):
        base = losses.MultiSimilarity
        candidates = {}
        for what, one in (
            ("MultiSimilarity", base()),
            ("with TCM", base() + losses.TCM()),
            ("with AutoTCM", AutoTCM(base())),
        ):
            keras.utils.set_random_seed(0)
            model = keras_tcm.models.embedding_model(network(run, size), DIMENSION)
            model.compile("sgd", loss=one, jit_compile="auto")
            candidates[what] = step_with(model, x, labels)
        where = f"{name}, {batch} images of {size} pixels"
        yield from run.compared("step", where, candidates)


def step_with(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """A training step without arguments."""
    return lambda: model.train_on_batch(x, y)


def resnet50(run: Run, size: int) -> keras.Model:
    """ResNet-50, or something small."""
    shape = (size, size, 3)
    if run.is_small:
        return keras_tcm.models.backbone("resnet_small", shape)
    return keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=shape
    )


def vit_base(run: Run, size: int) -> keras.Model:
    """The network of ViT-B/16 with average pooling, or something small like it."""
    depth, heads, width = (1, 2, 32) if run.is_small else (12, 12, 768)
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(width, 16, strides=16)(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    x = layers.Reshape((-1, width))(x)
    for _ in range(depth):
        normed = layers.LayerNormalization()(x)
        x += layers.MultiHeadAttention(heads, width // heads)(normed, normed)
        hidden = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x += layers.Dense(width)(hidden)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, x)


# ---------------------------------------------------------------------------- the whole

SECTIONS: dict[str, Callable[[Run], Iterator[Row]]] = {
    "evaluation": evaluation,
    "loss": loss,
    "step": step,
    "precision": precision,
}


def header() -> dict[str, str]:
    """Where and when this runs."""
    return {
        "card": card() or "none: a small trial on the CPU, whose times mean nothing",
        "backend": f"{keras.backend.backend()}, Keras {keras.version()}",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def main() -> int:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSON")
    args = parser.parse_args()
    backend = keras.backend.backend()
    if backend not in ("jax", "torch"):
        parser.error(f"KERAS_BACKEND must be jax or torch. Received: {backend}")
    os.environ["KERAS_BACKEND"] = backend
    about = header()
    print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    run = Run(card() is None, time.perf_counter() + args.seconds)
    rows: list[Row] = []
    try:
        for row in itertools.chain.from_iterable(SECTIONS[x](run) for x in args.only):
            rows.append(row)
            print(" | ".join(row.cells), flush=True)
            if args.out is not None:
                found = [dataclasses.asdict(one) for one in rows]
                write_text(args.out, json.dumps({**about, "rows": found}, indent=1))
    except WrongResultError as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    print("\n" + harness.markdown_table(HEADER, [row.cells for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
