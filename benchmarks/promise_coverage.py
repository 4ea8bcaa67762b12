"""How often a threshold keeps its promise on other classes, and what that costs.

Draws classes from populations whose classes differ in how close they lie to the middle
of all (centrality) and how wide they are (spread), with 3 to 30 samples each, chooses a
threshold by several rules, and looks up the true rate of that threshold over new
classes of the population. NumPy alone, but for queries against a gallery, which the
Keras backend compares, and for models, which are trained (400 steps, some minutes) and
tried on classes that they have not seen.

    python benchmarks/promise_coverage.py --out coverage.json

A cell (population, number of classes) that is in the file is not computed again. The
last columns are for other targets of the same draws.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats
from trained_models import BOTH_TERMS

from keras_tcm import datasets
from keras_tcm.evaluation import (
    STEPS_PER_UNIT,
    ClassErrors,
    accepted_steps,
    count_classes,
    normalize,
    to_steps,
)
from keras_tcm.files import write_text
from keras_tcm.threshold.promises import kept_for_classes, kept_for_population

DIMENSION = 32
TARGETS = (0.001, 0.01, 0.05)
CONFIDENCE = 0.95
SIZES = (3, 30)
NUM_CANDIDATES = 256
NUM_STEPS = 2 * STEPS_PER_UNIT + 1
# Classes with one sample each that stand for the population.
TRUTH_CLASSES = 30_000
# Classes whose own FAR tells the share that keeps the target, and their samples.
NEW_CLASSES, NEW_SAMPLES = 1000, 10
BLOCK = 1000
# The other half of the samples of each class; or one of each, and as many classes more.
GALLERIES = ("the same classes", "classes besides")

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def even(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All classes alike."""
    return np.full(size, 0.3), np.full(size, 0.6)


def uneven(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centrality from 0 to 1, and spreads that differ by a factor of 2."""
    return rng.uniform(0.0, 1.0, size), 0.6 * np.exp(0.35 * rng.normal(size=size))


def moderate(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """In between."""
    return rng.uniform(0.0, 0.6, size), 0.6 * np.exp(0.3 * rng.normal(size=size))


def heavy(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A few classes far closer to the middle, and far wider, than the others."""
    centrality = 0.5 * np.abs(rng.standard_t(4, size))
    return centrality, 0.6 * np.exp(0.5 * rng.normal(size=size))


POPULATIONS: dict[str, Draw] = {
    "even": even,
    "moderate": moderate,
    "uneven": uneven,
    "heavy": heavy,
}


def draw_samples(
    population: str, sizes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Unit vectors of new classes of these sizes, class by class."""
    centrality, spread = POPULATIONS[population](rng, len(sizes))
    centers = rng.normal(size=(len(sizes), DIMENSION)) / math.sqrt(DIMENSION)
    centers[:, 0] += centrality
    noise = rng.normal(size=(int(sizes.sum()), DIMENSION)) / math.sqrt(DIMENSION)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return normalize((centers[codes] + spread[codes, None] * noise).astype(np.float32))


def true_far(population: str, rng: np.random.Generator) -> np.ndarray:
    """FAR over pairs of new classes at each distance in steps."""
    x = draw_samples(population, np.ones(TRUTH_CLASSES, np.int64), rng)
    counts = np.zeros(NUM_STEPS, np.int64)
    for start in range(0, len(x), BLOCK):
        products = x[start : start + BLOCK] @ x[start:].T
        is_upper = np.triu(np.ones(products.shape, np.bool_), 1)
        counts += np.bincount(to_steps(products[is_upper]), minlength=NUM_STEPS)
    return np.cumsum(counts) / counts.sum()


def new_class_far(population: str, rng: np.random.Generator) -> np.ndarray:
    """Near distances of each of some new classes, sorted; shape `(classes, near)`."""
    others = draw_samples(population, np.ones(10_000, np.int64), rng)
    sizes = np.full(NEW_CLASSES, NEW_SAMPLES)
    x = draw_samples(population, sizes, rng).reshape(NEW_CLASSES, NEW_SAMPLES, -1)
    num_near = int(0.3 * NEW_SAMPLES * len(others))
    near = np.empty((NEW_CLASSES, num_near), np.int32)
    for number, rows in enumerate(x):
        steps = to_steps(rows @ others.T).ravel()
        near[number] = np.sort(np.partition(steps, num_near)[:num_near])
    return near


def near_pairs(
    x: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The nearest negative pairs by distance: steps, both classes, and how many are."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes)
    steps = to_steps(x @ x.T)
    for start, stop in zip(starts - sizes, starts, strict=True):
        steps[start:, start:stop] = NUM_STEPS
    num_pairs = (int(sizes.sum()) ** 2 - int(np.square(sizes).sum())) // 2
    num_near = int(max(TARGETS) * num_pairs) + 1
    flat = steps.ravel()
    last = np.partition(flat, num_near)[num_near]
    places = np.flatnonzero(flat <= last)
    order = places[np.argsort(flat[places], kind="stable")[:num_near]]
    rows, columns = np.divmod(order, len(x))
    return flat[order], codes[rows], codes[columns], num_pairs


def class_errors(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray, int],
    sizes: np.ndarray,
    target: float,
) -> tuple[np.ndarray, ClassErrors, np.ndarray, np.ndarray]:
    """Count the negative pairs at candidates for a threshold.

    Returns:
        The candidates in steps; the errors by class; the sum of the squared residuals
        of the pairs of classes, which the sharper form of the variance subtracts; and
        the mean over pairs of classes of their FAR.
    """
    values, *ends, num_pairs = pairs
    shares = target * np.arange(1, NUM_CANDIDATES + 1) / NUM_CANDIDATES
    counts = np.unique((shares * num_pairs).astype(np.int64))
    counts = counts[counts > 0]
    first, second = (end[: counts[-1]] for end in ends)
    bins = np.searchsorted(counts, np.arange(counts[-1]), side="right")
    num_classes, num_cuts = len(sizes), len(counts)
    table = sum(
        np.bincount(end * num_cuts + bins, minlength=num_classes * num_cuts)
        for end in (first, second)
    ).reshape(num_classes, num_cuts)
    total = sizes.sum()
    # Squares of counts of pairs of classes, from the number of each among its like.
    keys = first * num_classes + second
    by_pair = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[by_pair], prepend=-1))
    before = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    number = np.empty(len(keys))
    number[by_pair] = before
    weights = (sizes[first] * sizes[second]).astype(np.float64)
    squares, crossed, means = (
        np.cumsum(np.bincount(bins, values, minlength=num_cuts))
        for values in (2 * number + 1, weights, 1.0 / weights)
    )
    rates = counts / num_pairs
    square_sizes = (np.square(sizes).sum() ** 2 - (sizes**4).sum()) / 2.0
    residuals = squares - 2 * rates * crossed + rates**2 * square_sizes
    errors = ClassErrors(
        table.cumsum(axis=1), sizes * (total - sizes), counts, num_pairs, 2
    )
    return values[counts - 1], errors, residuals, means


def wilson(rates: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Upper limits of Wilson with effective trials."""
    z = stats.norm.ppf(CONFIDENCE)
    trials = rates * (1.0 - rates) / np.maximum(variances, 1e-300)
    half = z * np.sqrt((rates * (1.0 - rates) + z**2 / 4 / trials) / trials)
    return (rates + z**2 / 2 / trials + half) / (1.0 + z**2 / trials)


def rules(
    errors: ClassErrors, residuals: np.ndarray, means: np.ndarray, target: float
) -> dict[str, np.ndarray]:
    """Which candidates each rule takes to keep the target."""
    rates, num_pairs = errors.rates, errors.all_pairs
    deviations = errors.errors - rates * errors.pairs[:, None]
    total = np.square(deviations).sum(axis=0)
    # As the package cimat computes it.
    sharper = residuals + np.maximum(total - 2.0 * residuals, 0.0)
    size = len(errors.pairs)
    return {
        "empirical": rates <= target,
        "Wilson, pairs": wilson(rates, rates * (1 - rates) / num_pairs) <= target,
        "cimat": wilson(rates, sharper / num_pairs**2) <= target,
        "Wilson, classes": wilson(rates, total / num_pairs**2) <= target,
        "conformal": (means + 2 * size + 1) / math.comb(size + 2, 2) <= target,
        "keras_tcm": kept_for_population(errors, target, CONFIDENCE),
        "keras_tcm, classes": kept_for_classes(errors, target, CONFIDENCE, 0.9),
    }


@functools.cache
def truth(population: str) -> dict[str, np.ndarray]:
    """What is true of new classes: `"far"` and `"near"`, see the functions above."""
    rng = np.random.default_rng(0)
    return {
        "far": true_far(population, rng),
        "near": new_class_far(population, rng),
    }


def measure(population: str, num_classes: int, num_draws: int) -> Iterator[dict]:
    """Rows of the table for one population and number of classes."""
    found: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for number in range(num_draws):
        rng = np.random.default_rng([num_classes, number])
        sizes = rng.integers(SIZES[0], SIZES[1] + 1, num_classes)
        pairs = near_pairs(draw_samples(population, sizes, rng), sizes)
        for target in TARGETS:
            steps, *counted = class_errors(pairs, sizes, target)
            for rule, kept in rules(*counted, target).items():
                far = exceeding = math.nan
                if kept.any():
                    step = steps[np.flatnonzero(kept)[-1]]
                    far = truth(population)["far"][step] / target
                    places = int(target * NEW_SAMPLES * 10_000)
                    exceeding = np.mean(truth(population)["near"][:, places] <= step)
                found.setdefault((target, rule), []).append((far, exceeding))
    for (target, rule), values in found.items():
        far, exceeding = np.array(values).T
        broken = exceeding > 0.1 if rule == "keras_tcm, classes" else far > 1.0
        yield summary(target, rule, far, broken)


def measure_gallery(
    population: str, kind: str, num_classes: int, num_draws: int
) -> Iterator[dict]:
    """Rows of the table for queries against a gallery of a kind of `GALLERIES`."""
    is_same = kind == GALLERIES[0]
    found: dict[tuple[float, str], list[float]] = {}
    for number in range(num_draws):
        rng = np.random.default_rng([num_classes, number, 2])
        sizes = rng.integers(4, 12, num_classes if is_same else 2 * num_classes)
        x = draw_samples(population, sizes, rng)
        labels = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(len(x)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        if is_same:
            is_query = place < sizes[labels] // 2
        else:
            is_query = (labels < num_classes) & (place > 0)
        for target in TARGETS:
            counts = count_classes(
                x[is_query],
                labels[is_query],
                far=target,
                gallery_embeddings=x[~is_query],
                gallery_labels=labels[~is_query],
                verbose=False,
            )
            far = counts.far
            of_queries = dataclasses.replace(far, gallery=None)
            for rule, kept in (
                ("empirical", far.rates <= target),
                ("this gallery", kept_for_population(of_queries, target, CONFIDENCE)),
                ("keras_tcm", kept_for_population(far, target, CONFIDENCE)),
            ):
                true = math.nan
                if kept.any():
                    threshold = counts.thresholds[np.flatnonzero(kept)[-1]]
                    true = truth(population)["far"][accepted_steps(threshold)] / target
                found.setdefault((target, rule), []).append(true)
    for (target, rule), values in found.items():
        yield summary(target, rule, np.array(values))


def summary(
    target: float, rule: str, far: np.ndarray, broken: np.ndarray | None = None
) -> dict:
    """The rest of a row.

    Args:
        target: What was to be kept.
        rule: By which rule.
        far: FAR of each draw in units of the target; NaN where there is no answer.
        broken: Whether each answer breaks the promise. Defaults to `None`: if its FAR
            is above 1.
    """
    answered = ~np.isnan(far)
    broken = far > 1.0 if broken is None else broken
    return {
        "target": target,
        "rule": rule,
        "draws": len(far),
        "kept": float(1.0 - np.mean(broken & answered)),
        "answered": float(answered.mean()),
        "far": float(far[answered].mean()) if answered.any() else None,
    }


@functools.cache
def real_embeddings(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a data set of the package, without the mean: embeddings of a kind."""
    # Nothing is trained: all classes are alike.
    images, labels = (
        np.concatenate(both) for both in zip(*datasets.load(name), strict=True)
    )
    x = images.reshape(len(images), -1).astype(np.float32)
    labels = np.unique(labels, return_inverse=True)[1]
    x -= x.mean(axis=0)
    axes = np.linalg.svd(x[:: max(1, len(x) // 2000)], full_matrices=False)[2]
    return normalize(x @ axes[:64].T), labels


@functools.cache
def model_embeddings(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Test classes of a data set, embedded by a model of its training classes."""
    import keras

    from keras_tcm import AutoTCM, data, losses, models

    (x, y), (x_test, y_test) = datasets.load(name)
    keras.utils.set_random_seed(0)
    model = models.embedding_model(models.backbone("resnet_small", x.shape[1:]), 64)
    loss = AutoTCM(losses.MultiSimilarity(), **BOTH_TERMS)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    sampler = data.ClassBalancedSampler(
        x, y, classes_per_batch=32, samples_per_class=4, steps_per_epoch=400, seed=0
    )
    model.fit(sampler, verbose=0)
    labels = np.unique(y_test, return_inverse=True)[1]
    return normalize(model.predict(x_test, batch_size=512, verbose=0)), labels


def measure_real(
    embedded: tuple[np.ndarray, np.ndarray], num_classes: int, num_draws: int
) -> Iterator[dict]:
    """Rows of the table for random splits of the classes of real embeddings."""
    x, labels = embedded
    order = np.argsort(labels, kind="stable")
    # A few samples of each class, evenly spread: the pairs of more say little else.
    x, sizes = x[order], np.bincount(labels)
    kept = np.concatenate(
        [
            start + np.unique(np.linspace(0, size - 1, 12).astype(int))
            for start, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True)
        ]
    )
    sizes = np.bincount(labels[order][kept])
    x = x[kept]
    starts = np.cumsum(sizes) - sizes
    found: dict[tuple[float, str], list[float]] = {}
    for number in range(num_draws):
        rng = np.random.default_rng([num_classes, number, 1])
        chosen = rng.permutation(len(sizes))
        parts = []
        for some in (chosen[:num_classes], chosen[num_classes:]):
            # Of the many others, every third sample.
            every = 1 if len(parts) == 0 else 3
            rows = [np.arange(starts[c], starts[c] + sizes[c], every) for c in some]
            parts.append((x[np.concatenate(rows)], np.array([len(r) for r in rows])))
        pairs, (others, other_sizes) = near_pairs(*parts[0]), parts[1]
        codes = np.repeat(np.arange(len(other_sizes)), other_sizes)
        between = np.sort(to_steps(others @ others.T)[codes[:, None] < codes])
        for target in TARGETS:
            steps, *counted = class_errors(pairs, sizes[chosen[:num_classes]], target)
            for rule, kept in rules(*counted, target).items():
                if rule == "keras_tcm, classes":
                    continue
                far = math.nan
                if kept.any():
                    step = steps[np.flatnonzero(kept)[-1]]
                    below = np.searchsorted(between, step, side="right")
                    far = below / len(between) / target
                found.setdefault((target, rule), []).append(far)
    for (target, rule), values in found.items():
        yield summary(target, rule, np.array(values))


def table(rows: list[dict]) -> str:
    """The share of draws in which each rule kept its promise, in Markdown."""
    names = list(dict.fromkeys(row["rule"] for row in rows))
    lines = [
        "| population | classes | target | " + " | ".join(names) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in names) + " |",
    ]
    cells: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        key = row["population"], row["classes"], row["target"]
        cells.setdefault(key, {})[row["rule"]] = row
    for (population, classes, target), by_rule in cells.items():
        texts = []
        for name in names:
            row = by_rule.get(name)
            if row is None:
                texts.append("")
                continue
            text = f"{row['kept']:.1%}"
            if row["answered"] == 0:
                text = "no answer"
            elif row["far"] is not None:
                text += f", {row['far']:.2f}"
                if row["answered"] < 0.995:
                    text += f" ({row['answered']:.0%})"
            texts.append(text)
        lines.append(
            f"| {population} | {classes} | {target:.1%} | " + " | ".join(texts) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--classes", type=int, nargs="+", default=[30, 60, 120, 400])
    parser.add_argument("--populations", nargs="*", default=list(POPULATIONS))
    parser.add_argument("--galleries", nargs="*", default=["moderate", "uneven"])
    parser.add_argument("--real", nargs="*", default=["glyphs"])
    parser.add_argument("--models", nargs="*", default=["glyphs", "codes"])
    args = parser.parse_args()
    rows: list[dict] = []
    if args.out.exists():
        rows = json.loads(args.out.read_text(encoding="utf-8"))

    cells: list[tuple[str, int, Callable[[], Iterator[dict]]]] = []
    for population in args.populations:
        for size in args.classes:
            # Large draws take long, and vary less.
            draws = args.draws if size < 400 else args.draws // 3
            measured = functools.partial(measure, population, size, draws)
            cells.append((population, size, measured))
    for population in args.galleries:
        for size, kind in itertools.product((60, 200), GALLERIES):
            measured = functools.partial(
                measure_gallery, population, kind, size, args.draws
            )
            cells.append((f"{population}, {kind} in the gallery", size, measured))
    kinds = (args.real, "", real_embeddings), (args.models, " model", model_embeddings)
    for names, suffix, embed in kinds:
        for name, size in itertools.product(names, (30, 60, 120)):
            cells.append(
                (
                    name + suffix,
                    size,
                    lambda embed=embed, name=name, size=size: measure_real(
                        embed(name), size, 200
                    ),
                )
            )
    known = {(row["population"], row["classes"]) for row in rows}
    for name, size, measured in cells:
        if (name, size) not in known:
            rows.extend({"population": name, "classes": size, **x} for x in measured())
            write_text(args.out, json.dumps(rows, indent=1))
            print(f"{name}, {size} classes", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
