"""What normalising scores after training does to models with and without TCM.

    KERAS_BACKEND=tensorflow python benchmarks/score_normalization.py train FOLDER
    python benchmarks/score_normalization.py measure FOLDER
    python benchmarks/score_normalization.py report

Networks, data sets and recipes are those of `keras-tcm study --preset embedded`, with
one of its base losses. The first command keeps the embeddings of the samples that are
evaluated and of a cohort of training samples. How many of the cohort count, and how
large it is, is chosen on training classes that were held out; then the test classes
are looked at. What is trained or measured is not done again. A training takes one to
three minutes on two cores.
"""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Iterator

import harness
import numpy as np
from trained_models import BOTH_TERMS, run_program, write_results

from keras_tcm import (
    AutoTCM,
    ScoreNormalization,
    choose_threshold,
    datasets,
    evaluate_embeddings,
)
from keras_tcm.files import replacing
from keras_tcm.study.grid import BASE_LOSSES, PRESETS
from keras_tcm.study.training import embed, train_embedding_model
from keras_tcm.study.tuning import held_out

GRID = PRESETS["embedded"]
LOSS = "multi_similarity"
SEEDS = (0,)
RESULTS = pathlib.Path("benchmarks/results/score_normalization.csv")
# At which the FRR is told.
FAR = 0.01
# Half of the test classes are enough to promise it.
PROMISED_FAR = 0.02
# Half as many as in the study's comparisons, as in its search for margins.
STEPS = 400
TOPS = (5, 10, 20, 50, 100, 200)
COHORTS = (1000, 4000, 8192)
# For other cohorts than `COHORT`, and for the means of classes.
TOP = 20
# What is compared on the test classes: chosen on held-out classes.
CHOSEN = {"shift": 20, "as_norm": 200}
COHORT = 4000
METHODS = {"shift": "shift", "as_norm": "AS-norm"}
NEITHER = "neither"


@dataclasses.dataclass(frozen=True)
class Model:
    """A training of a cell of the study.

    Attributes:
        dataset: Name of the data set.
        network: Name of the backbone.
        loss: Name of the base loss.
        has_tcm: Whether it is trained with `AutoTCM`.
        is_held_out: Whether the last quarter of the training classes is evaluated, and
            not trained on; otherwise the test classes.
        seed: Seed of the weights and the batches.
    """

    dataset: str
    network: str
    loss: str
    has_tcm: bool
    is_held_out: bool
    seed: int

    @property
    def name(self) -> str:
        """Tells it from others."""
        words = [self.dataset, self.network, self.loss, f"seed{self.seed}"]
        words += ["tcm"] * self.has_tcm + ["held_out"] * self.is_held_out
        return "-".join(words)

    @property
    def plain(self) -> "Model":
        """The same without TCM."""
        return dataclasses.replace(self, has_tcm=False)


def models() -> list[Model]:
    """What is trained."""
    cells = [
        (cell.dataset, cell.recipe.backbone, cell.loss)
        for cell in GRID.cells()
        if cell.loss == LOSS
    ]
    first = GRID.recipes[0].backbone
    looked_at = [(cell, True, 0) for cell in cells if cell[1] == first]
    looked_at += [(cell, False, seed) for seed in SEEDS for cell in cells]
    return [
        Model(*cell, has_tcm, is_held_out, seed)
        for cell, is_held_out, seed in looked_at
        for has_tcm in (False, True)
    ]


def train(model: Model, folder: pathlib.Path) -> None:
    """Train a model, and keep embeddings that it makes."""
    (x, y), (x_new, y_new) = datasets.load(model.dataset)
    if model.is_held_out:
        away = held_out(y)
        x, y, x_new, y_new = x[~away], y[~away], x[away], y[away]
    (recipe,) = (one for one in GRID.recipes if one.backbone == model.network)
    loss = BASE_LOSSES[model.loss]()
    trained, _ = train_embedding_model(
        x,
        np.unique(y, return_inverse=True)[1],
        AutoTCM(loss, **BOTH_TERMS) if model.has_tcm else loss,
        STEPS,
        model.seed,
        recipe,
    )
    drawn = np.random.default_rng(0).permutation(len(x))[: max(COHORTS)]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{model.name}.npz") as path, path.open("wb") as file:
        np.savez(
            file,
            embeddings=embed(trained, x_new),
            labels=y_new,
            cohort=embed(trained, x[drawn]),
            cohort_labels=y[drawn],
        )


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the scores of a model are made of.

    Attributes:
        model: The model.
        method: `"none"`, or that of the `ScoreNormalization`.
        top: How many of the cohort count.
        cohort: Size of the cohort.
        is_of_means: Whether the cohort are the means of its classes.
    """

    model: Model
    method: str = "none"
    top: int = 0
    cohort: int = 0
    is_of_means: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured of scores.

    Attributes:
        opis: OPIS.
        frr: FRR at a FAR of 1%.
        recall_at_1: R@1.
        promised_frr: FRR on half of the test classes at a threshold that promises a FAR
            of 2%, chosen on the other half; mean of both ways. NaN on training classes.
        promised_far: The FAR there.
    """

    opis: float
    frr: float
    recall_at_1: float
    promised_frr: float
    promised_far: float


Found = dict[Scores, Measured]


def plan() -> Iterator[Scores]:
    """What to measure, model by model."""
    for model in models():
        yield Scores(model)
        for method in METHODS:
            if not model.is_held_out:
                yield Scores(model, method, CHOSEN[method], COHORT)
                continue
            for top in TOPS:
                yield Scores(model, method, top, COHORT)
            for cohort in COHORTS:
                if cohort != COHORT:
                    yield Scores(model, method, TOP, cohort)
            yield Scores(model, method, TOP, COHORT, is_of_means=True)


def measure(scores: Scores, folder: pathlib.Path) -> Measured:
    """Measure the scores of a model whose embeddings are in a folder."""
    with np.load(folder / f"{scores.model.name}.npz", allow_pickle=False) as file:
        x, y = file["embeddings"], file["labels"]
        cohort, cohort_labels = file["cohort"], file["cohort_labels"]
    normalization = None
    if scores.method != "none":
        if scores.is_of_means:
            cohort = np.stack(
                [cohort[cohort_labels == one].mean(0) for one in set(cohort_labels)]
            )
        cohort = cohort[: scores.cohort]
        normalization = ScoreNormalization(cohort, scores.top, scores.method)
    found = evaluate_embeddings(
        x, y, far_targets=(FAR,), score_normalization=normalization, verbose=False
    )
    promised = math.nan, math.nan
    if not scores.model.is_held_out:
        promised = promised_rates(x, y, normalization)
    point = found.operating_points[0]
    return Measured(found.opis, point.frr, found.recall[1], *promised)


def promised_rates(
    x: np.ndarray, y: np.ndarray, normalization: ScoreNormalization | None
) -> tuple[float, float]:
    """FRR and FAR on half of the classes at a threshold that the others promise."""
    rates = []
    classes = np.random.default_rng(0).permutation(np.unique(y))
    is_first = np.isin(y, classes[: len(classes) // 2])
    for chosen in (is_first, ~is_first):
        threshold = choose_threshold(
            x[chosen],
            y[chosen],
            far=PROMISED_FAR,
            score_normalization=normalization,
            verbose=False,
        )
        check = threshold.check(
            x[~chosen], y[~chosen], score_normalization=normalization, verbose=False
        )
        rates.append((check.frr, check.far))
    frr, far = np.mean(rates, axis=0).tolist()
    return frr, far


# ------------------------------------------------------------------------------- files

_SCORES = [field.name for field in dataclasses.fields(Scores)[1:]]
_MEASURED = [field.name for field in dataclasses.fields(Measured)]


def read(path: pathlib.Path) -> Found:
    """Read results."""
    known = {model.name: model for model in models()}
    found = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            scores = Scores(
                known[row["model"]],
                row["method"],
                int(row["top"]),
                int(row["cohort"]),
                row["is_of_means"] == "True",
            )
            found[scores] = Measured(*(float(row[name]) for name in _MEASURED))
    return found


def write(path: pathlib.Path, found: Found) -> None:
    """Write results."""
    rows = (
        ([scores.model.name, *(getattr(scores, name) for name in _SCORES)], measured)
        for scores, measured in found.items()
    )
    write_results(path, ["model", *_SCORES, *_MEASURED], rows)


# ------------------------------------------------------------------------------ report


def report(found: Found) -> str:
    """Tables of all that was found, in Markdown."""
    return "\n\n".join(
        [
            "## On held-out training classes",
            _held_out_table(found),
            "## On the test classes",
            _summary_table(found),
            _model_table(found),
        ]
    )


def _change(pairs: Iterable[tuple[Measured, Measured]]) -> tuple[str, ...]:
    """Changes from the first to the second: of OPIS, the rates and R@1."""
    pairs = list(pairs)
    logs = [math.log(after.opis / before.opis) for before, after in pairs]
    mean = math.exp(float(np.mean(logs))) - 1.0
    points = [
        100 * np.mean([getattr(b, name) - getattr(a, name) for a, b in pairs])
        for name in ("frr", "recall_at_1", "promised_frr", "promised_far")
    ]
    lower = sum(log < 0 for log in logs)
    return f"{mean:+.1%}", f"{lower} of {len(logs)}", *(f"{x:+.2f}" for x in points)


_CHANGES = ("OPIS", "lower in", "FRR at FAR 1%", "R@1")
_PROMISED = ("FRR at the promise", "FAR at the promise")


def _held_out_table(found: Found) -> str:
    changes: dict[tuple[str, ...], list[tuple[Measured, Measured]]] = {}
    for scores, after in found.items():
        model = scores.model
        if model.is_held_out and scores.method != "none":
            line = (
                "AutoTCM" if model.has_tcm else "without TCM",
                METHODS[scores.method],
                str(scores.top),
                "class means" if scores.is_of_means else f"{scores.cohort:,}",
            )
            changes.setdefault(line, []).append((found[Scores(model)], after))
    rows = [(*line, *_change(pairs)[:-2]) for line, pairs in changes.items()]
    return harness.markdown_table(
        ("model", "method", "top", "cohort", *_CHANGES), sorted(rows, key=_by_arm)
    )


def _by_arm(row: tuple[str, ...]) -> tuple[bool, bool]:
    """Those without TCM first, and of these the shift."""
    return row[0] != "without TCM", row[1] != METHODS["shift"]


def _arms(found: Found) -> dict[str, dict[Model, Measured]]:
    """Results on the test classes by what was done, and then by model without TCM."""
    arms: dict[str, dict[Model, Measured]] = {}
    for method in ("none", *METHODS):
        for has_tcm in (False, True):
            words = ["AutoTCM"] * has_tcm
            words += [METHODS[method]] if method != "none" else []
            arms[" + ".join(words) or NEITHER] = {
                scores.model.plain: measured
                for scores, measured in found.items()
                if not scores.model.is_held_out
                and (scores.method, scores.model.has_tcm) == (method, has_tcm)
            }
    return {name: by_model for name, by_model in arms.items() if by_model}


def _summary_table(found: Found) -> str:
    arms = _arms(found)
    rows = []
    for before in (NEITHER, "AutoTCM"):
        for after in arms:
            if after != before and (before == NEITHER or after.startswith(before)):
                pairs = [
                    (arms[before][model], measured)
                    for model, measured in arms[after].items()
                ]
                rows.append((before, after, *_change(pairs)))
    return harness.markdown_table(("from", "to", *_CHANGES, *_PROMISED), rows)


def _model_table(found: Found) -> str:
    arms = _arms(found)
    rows = []
    for model in arms[NEITHER]:
        row = [f"{model.dataset}, {model.network}, {model.loss}"]
        for measured in (by_model[model] for by_model in arms.values()):
            row.append(
                f"{1000 * measured.opis:.2f}; {100 * measured.promised_frr:.1f} at "
                f"{100 * measured.promised_far:.2f}; {100 * measured.recall_at_1:.1f}"
            )
        rows.append(tuple(row))
    return harness.markdown_table(("data set, network, base loss", *arms), rows)


def main() -> None:
    """Train or measure what is missing, or write the report."""
    run_program(
        __doc__,
        RESULTS,
        models=models(),
        train=train,
        plan=((scores, scores.model) for scores in plan()),
        measure=measure,
        read=read,
        write=write,
        report=report,
    )


if __name__ == "__main__":
    main()
