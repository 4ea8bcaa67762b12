"""One threshold on pictures that nobody here drew: emoji and icons of many makers.

    npm install ...   (see the data sets: docs/datasets.md)
    KERAS_BACKEND=tensorflow python benchmarks/found_pictures.py train FOLDER
    python benchmarks/found_pictures.py measure FOLDER
    python benchmarks/found_pictures.py report

The packages are read from `node_modules` of the working folder. The network, its recipe
and the base loss are those of `keras-tcm study --preset embedded`, `AutoTCM` and the
score normalisation have their defaults: nothing was chosen on the test classes. Without
augmentation the network learns its training images by heart, which is why all is done
with it, too. What is trained or measured is not done again. A training takes a minute
on two cores.
"""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import harness
import keras
import numpy as np
from keras import ops
from score_normalization import (
    CHOSEN,
    COHORT,
    METHODS,
    PROMISED_FAR,
    promised_rates,
)
from trained_models import BOTH_TERMS, run_program, write_results

from keras_tcm import (
    AutoTCM,
    ScoreNormalization,
    choose_threshold,
    compare_embeddings,
    datasets,
    evaluate_embeddings,
)
from keras_tcm.evaluation import Estimate
from keras_tcm.files import replacing
from keras_tcm.study.estimate import mean_estimate
from keras_tcm.study.grid import BASE_LOSSES, PRESETS
from keras_tcm.study.training import embed, train_embedding_model

DATA_SETS = ("emoji", "icons")
PACKAGES = pathlib.Path("node_modules")
LOSS = "multi_similarity"
UNIFIED = "unified_threshold"
SEEDS = (0, 1, 2)
STEPS = 400
RECIPE = PRESETS["embedded"].recipes[0]
RESULTS = pathlib.Path("benchmarks/results/found_pictures.csv")
# How else `AutoTCM` is tried than as it comes: with terms that are held fixed, and a
# strength that suits them (see docs/auto_tcm.md).
TERMS: dict[str, dict[str, Any]] = {
    "": {},
    "both terms": BOTH_TERMS,
    "pull only": {"strength": 0.25, "negative_weight": 0.0},
}
# True accepts are told at these FARs.
FARS = (0.1, 0.01, 0.001, 0.0001)


@dataclasses.dataclass(frozen=True)
class Model:
    """A training.

    Attributes:
        dataset: Name of the data set.
        seed: Seed of the weights and the batches.
        has_tcm: Whether it is trained with `AutoTCM`.
        is_augmented: Whether images are moved, turned and zoomed at random.
        loss: Name of the base loss.
        terms: How `AutoTCM` is tried, one of `TERMS`.
    """

    dataset: str
    seed: int
    has_tcm: bool
    is_augmented: bool
    loss: str = LOSS
    terms: str = ""

    @property
    def name(self) -> str:
        """Tells it from others."""
        words = [self.dataset, self.loss, f"seed{self.seed}"]
        words += ["tcm"] * self.has_tcm + self.terms.split()[:1]
        words += ["augmented"] * self.is_augmented
        return "-".join(words)

    @property
    def training(self) -> str:
        """How it is trained, in words."""
        return "augmented" if self.is_augmented else "not augmented"

    @property
    def plain(self) -> "Model":
        """The same without TCM, and with the usual base loss."""
        return Model(self.dataset, self.seed, False, self.is_augmented)


def models() -> list[Model]:
    """What is trained."""
    return [
        Model(dataset, seed, terms is not None, is_augmented, loss, terms or "")
        for loss in (LOSS, UNIFIED)
        for is_augmented in (False, True)
        for seed in SEEDS
        for dataset in DATA_SETS
        # The rival is tried as its paper has it.
        for terms in ((None, *TERMS) if loss == LOSS else (None,))
    ]


class UnifiedThreshold(keras.losses.Loss):
    """The loss between samples of UniTSFace, which has one threshold for all pairs.

    ```
    mean over positive pairs of log(1 + exp(b - scale * s))
    + mean over anchors of log(1 + sum over negatives of exp(scale * s - b))
    ```

    There `b` is learned; here it is what is best for the batch, found by bisection: the
    gradient with respect to the embeddings is that with `b` held fixed.

    Reference:
        - [Li et al., NeurIPS 2023](https://arxiv.org/abs/2311.02523)
    """

    scale = 64.0

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the loss of a batch of unit vectors."""
        logits = self.scale * ops.matmul(y_pred, ops.transpose(y_pred))
        labels = ops.reshape(y_true, (-1,))
        same = ops.equal(labels[:, None], labels[None, :])
        is_self = ops.eye(ops.shape(labels)[0], dtype="bool")
        positive = ops.cast(ops.logical_and(same, ops.logical_not(is_self)), "float32")
        negatives = ops.logsumexp(ops.where(same, -1e9, logits), axis=1)
        number = ops.maximum(ops.sum(positive), 1.0)
        known, all_negatives = map(ops.stop_gradient, (logits, negatives))
        low, high = -self.scale, 2.0 * self.scale
        for _ in range(30):
            b = (low + high) / 2.0
            pull = ops.sum(positive * ops.sigmoid(b - known)) / number
            is_high = pull > ops.mean(ops.sigmoid(all_negatives - b))
            low, high = ops.where(is_high, low, b), ops.where(is_high, b, high)
        b = (low + high) / 2.0
        of_positives = ops.sum(positive * ops.softplus(b - logits)) / number
        return of_positives + ops.mean(ops.softplus(negatives - b))


def augmentation() -> keras.layers.Layer:
    """Moves, turns and zooms images a little."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            layers.RandomRotation(0.04, fill_mode="nearest"),
            layers.RandomZoom(0.15, fill_mode="nearest"),
        ]
    )


def train(model: Model, folder: pathlib.Path) -> None:
    """Train a model; keep what it makes of all test sets and of a cohort."""
    sets = {name: datasets.load(name, PACKAGES) for name in DATA_SETS}
    x, y = sets[model.dataset][0]
    x = _in_colour(x)
    loss = UnifiedThreshold() if model.loss == UNIFIED else BASE_LOSSES[LOSS]()
    trained, _ = train_embedding_model(
        x,
        np.unique(y, return_inverse=True)[1],
        AutoTCM(loss, **TERMS[model.terms]) if model.has_tcm else loss,
        STEPS,
        model.seed,
        RECIPE,
        augment=augmentation() if model.is_augmented else None,
    )
    arrays = {"cohort": embed(trained, x[_drawn(len(x))])}
    for name, (_, (x_test, y_test)) in sets.items():
        embeddings = embed(trained, _in_colour(x_test))
        arrays |= {name: embeddings, f"{name}_labels": y_test}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{model.name}.npz") as path, path.open("wb") as file:
        np.savez(file, **arrays)


def _in_colour(x: np.ndarray) -> np.ndarray:
    """RGB on white: icons are black, given as bright on dark."""
    return x if x.shape[-1] == 3 else np.repeat(255 - x, 3, axis=-1)


def _drawn(number: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(number)[:COHORT]


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is compared.

    Attributes:
        model: The model.
        method: `"none"`, or that of a `ScoreNormalization`.
    """

    model: Model
    method: str

    @property
    def arm(self) -> str:
        """What was done about the threshold, in words."""
        if self.model.loss == UNIFIED:
            return "UniTSFace's loss"
        name = ", ".join(filter(None, ("AutoTCM", self.model.terms)))
        words = [name] * self.model.has_tcm
        words += [METHODS[self.method]] if self.method in METHODS else []
        return " + ".join(words) or "neither"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured of the test classes.

    Attributes:
        opis: OPIS.
        epsilon_opis: That of the worst tenth of the classes.
        recall_at_1: R@1.
        tar_1: True accept rate, 1 - FRR, at the first of `FARS`.
        tar_2: At the second.
        tar_3: At the third.
        tar_4: At the last.
        far: FAR on half of the classes at a threshold that promises `PROMISED_FAR`,
            chosen on the other half; mean of both ways.
        frr: The FRR there.
        other_far: FAR of such a threshold, chosen on all of them, on the test classes
            of the other data set.
        other_frr: The FRR there.
        low: Lower end of a 95% interval over classes of the change of OPIS by
            `AutoTCM`, as a share; NaN of models without.
        high: Its upper end.
    """

    opis: float
    epsilon_opis: float
    recall_at_1: float
    tar_1: float
    tar_2: float
    tar_3: float
    tar_4: float
    far: float
    frr: float
    other_far: float
    other_frr: float
    low: float = math.nan
    high: float = math.nan


Found = dict[Scores, Measured]


def plan() -> Iterator[tuple[Scores, Model]]:
    """What to measure."""
    for model in models():
        for method in ("none", *(METHODS if model.loss == LOSS else ())):
            yield Scores(model, method), model


def measure(scores: Scores, folder: pathlib.Path) -> Measured:
    """Measure the scores of a model whose embeddings are in a folder."""
    model = scores.model
    x, y, others, other_labels, cohort = _embeddings(model, folder)
    normalization = None
    if scores.method != "none":
        top = CHOSEN[scores.method]
        normalization = ScoreNormalization(cohort, top, scores.method)
    options = {"score_normalization": normalization, "verbose": False}
    found = evaluate_embeddings(x, y, far_targets=FARS, **options)
    frr, far = promised_rates(x, y, normalization)
    elsewhere = choose_threshold(x, y, far=PROMISED_FAR, **options).check(
        others, other_labels, **options
    )
    interval = math.nan, math.nan
    if model.has_tcm and scores.method == "none":
        before, *_ = _embeddings(model.plain, folder)
        interval = _interval(before, x, y)
    return Measured(
        *(found.opis, found.epsilon_opis, found.recall[1]),
        *(1.0 - point.frr for point in found.operating_points),
        *(far, frr),
        *(elsewhere.far, elsewhere.frr),
        *interval,
    )


def _embeddings(model: Model, folder: pathlib.Path) -> tuple[np.ndarray, ...]:
    """Of the test classes, with labels, of the other data set's, and of the cohort."""
    (other,) = set(DATA_SETS) - {model.dataset}
    with np.load(folder / f"{model.name}.npz", allow_pickle=False) as file:
        names = model.dataset, f"{model.dataset}_labels", other, f"{other}_labels"
        return tuple(file[name] for name in (*names, "cohort"))


def _interval(
    before: np.ndarray, after: np.ndarray, y: np.ndarray
) -> tuple[float, ...]:
    change = compare_embeddings(before, after, y).changes["opis"].relative
    if change is None or change.interval is None:
        return math.nan, math.nan
    return change.interval


# ------------------------------------------------------------------------------- files

_MEASURED = [field.name for field in dataclasses.fields(Measured)]


def read(path: pathlib.Path) -> Found:
    """Read results."""
    known = {model.name: model for model in models()}
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            Scores(known[row["model"]], row["method"]): Measured(
                *(float(row[name]) for name in _MEASURED)
            )
            for row in csv.DictReader(lines)
        }


def write(path: pathlib.Path, found: Found) -> None:
    """Write results."""
    rows = (((one.model.name, one.method), found[one]) for one in found)
    write_results(path, ["model", "method", *_MEASURED], rows)


# ------------------------------------------------------------------------------ report


def report(found: Found) -> str:
    """Tables of all that was found, in Markdown."""
    return "\n\n".join(
        [
            "## OPIS and R@1",
            _changes(found),
            "## Intervals over classes",
            _intervals(found),
            "## True accept rates",
            _accepts(found),
            "## One threshold for two data sets",
            _thresholds(found),
        ]
    )


Cell = tuple[str, str]


def _cells(found: Found) -> dict[Cell, dict[str, dict[int, Measured]]]:
    """Results by data set and training, then by arm, then by seed."""
    cells: dict[Cell, dict[str, dict[int, Measured]]] = {}
    for scores, measured in found.items():
        model = scores.model
        arms = cells.setdefault((model.dataset, model.training), {})
        arms.setdefault(scores.arm, {})[model.seed] = measured
    return cells


def _mean(measured: Iterable[Measured], name: str) -> float:
    return 100.0 * float(np.mean([getattr(one, name) for one in measured]))


def _changes(found: Found) -> str:
    rows = []
    for (dataset, training), arms in _cells(found).items():
        plain = arms["neither"]
        for arm, by_seed in arms.items():
            seeds = [seed for seed in by_seed if seed in plain]
            row = [dataset, training, arm, str(len(seeds))]
            row.append(f"{_mean(by_seed.values(), 'opis') * 10:.2f}")
            changes: list[Callable[[Measured, Measured], float]] = [
                lambda a, b: math.log(b.opis / a.opis),
                lambda a, b: math.log(b.epsilon_opis / a.epsilon_opis),
                lambda a, b: 100.0 * (b.recall_at_1 - a.recall_at_1),
            ]
            for number, change in enumerate(changes):
                each = [change(plain[seed], by_seed[seed]) for seed in seeds]
                estimate = mean_estimate(each)
                if number < 2:
                    estimate = estimate.map(lambda x: 100.0 * math.expm1(x))
                row.append("" if arm == "neither" else _told(estimate, number < 2))
            rows.append(row)
    header = "data set|training|arm|seeds|OPIS e-3|OPIS|10%-OPIS|R@1"
    return harness.markdown_table(header.split("|"), rows)


def _told(estimate: Estimate, is_share: bool) -> str:
    sign = "%" if is_share else ""
    text = f"{estimate.value:+.1f}{sign}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} ({low:+.1f} to {high:+.1f})"


def _intervals(found: Found) -> str:
    rows = []
    for (dataset, training), arms in _cells(found).items():
        told = [
            f"{seed}: {100 * one.low:+.0f}% to {100 * one.high:+.0f}%"
            for seed, one in sorted(arms.get("AutoTCM", {}).items())
        ]
        rows.append([dataset, training, "; ".join(told)])
    header = ["data set", "training", "change of OPIS by AutoTCM, seed by seed"]
    return harness.markdown_table(header, rows)


def _accepts(found: Found) -> str:
    rows = []
    for (dataset, training), arms in _cells(found).items():
        for arm, by_seed in arms.items():
            rates = [
                f"{_mean(by_seed.values(), f'tar_{number}'):.1f}"
                for number in range(1, len(FARS) + 1)
            ]
            rows.append([dataset, training, arm, *rates])
    header = ["data set", "training", "arm", *(f"at FAR {far:g}" for far in FARS)]
    return harness.markdown_table(header, rows)


def _thresholds(found: Found) -> str:
    rows = []
    for (dataset, training), arms in _cells(found).items():
        for arm, by_seed in arms.items():
            rates = [
                f"{_mean(by_seed.values(), name):.2f}"
                for name in ("far", "frr", "other_far", "other_frr")
            ]
            rows.append([dataset, training, arm, *rates])
    header = "trained on|training|arm|FAR|FRR|FAR on the other set|FRR there"
    return harness.markdown_table(header.split("|"), rows)


def main() -> None:
    """Train or measure what is missing, or write the report."""
    run_program(
        __doc__,
        RESULTS,
        models=models(),
        train=train,
        plan=plan(),
        measure=measure,
        read=read,
        write=write,
        report=report,
    )


if __name__ == "__main__":
    main()
