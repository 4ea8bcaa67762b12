"""What normalising scores after training does to models with and without TCM.

    KERAS_BACKEND=jax python benchmarks/auto_tcm.py embeddings --embeddings FOLDER
    python benchmarks/score_normalization.py measure FOLDER
    python benchmarks/score_normalization.py report

The first command trains the models, and keeps the embeddings of the samples that are
evaluated and of a cohort of training samples. How many of the cohort count, and how
large it is, is chosen on training classes that were held out; then the test classes
are looked at. Results are rows of a CSV file; those that it holds are not measured
again.
"""

import argparse
import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable, Iterator

import auto_tcm
import harness
import numpy as np
from auto_tcm_results import Job

from keras_tcm import ScoreNormalization, choose_threshold, evaluate_embeddings
from keras_tcm.files import write_text

RESULTS = pathlib.Path("benchmarks/results/score_normalization.csv")
# The promised FAR, and that at which the FRR is told.
FAR = 0.01
TOPS = (5, 10, 20, 50, 100, 200)
COHORTS = (1000, 4000, 8192)
# What is compared on the test classes: chosen on held-out classes.
TOP = 20
COHORT = 4000
METHODS = {"shift": "shift", "as_norm": "AS-norm"}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the scores of a model are made of.

    Attributes:
        job: The training.
        method: `"none"`, or that of the `ScoreNormalization`.
        top: How many of the cohort count.
        cohort: Size of the cohort.
        is_of_means: Whether the cohort are the means of its classes.
    """

    job: Job
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
        promised_frr: FRR on half of the classes at a threshold that promises that FAR,
            chosen on the other half; mean of both ways.
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
    for job in auto_tcm.kept_models({}):
        yield Scores(job)
        for method in METHODS:
            if not job.held_out:
                yield Scores(job, method, TOP, COHORT)
                continue
            for top in TOPS:
                yield Scores(job, method, top, COHORT)
            for cohort in COHORTS:
                if cohort != COHORT:
                    yield Scores(job, method, TOP, cohort)
            yield Scores(job, method, TOP, COHORT, is_of_means=True)


def measure(scores: Scores, folder: pathlib.Path) -> Measured:
    """Measure the scores of a model whose embeddings are in a folder."""
    with np.load(folder / scores.job.file_name, allow_pickle=False) as file:
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
    promised = []
    classes = np.random.default_rng(0).permutation(np.unique(y))
    is_first = np.isin(y, classes[: len(classes) // 2])
    for chosen in (is_first, ~is_first):
        threshold = choose_threshold(
            x[chosen],
            y[chosen],
            far=FAR,
            score_normalization=normalization,
            verbose=False,
        )
        check = threshold.check(
            x[~chosen], y[~chosen], score_normalization=normalization, verbose=False
        )
        promised.append((check.frr, check.far))
    frr, far = np.mean(promised, axis=0).tolist()
    point = found.operating_points[0]
    return Measured(found.opis, point.frr, found.recall[1], frr, far)


# ------------------------------------------------------------------------------- files

_SCORES = [field.name for field in dataclasses.fields(Scores)[1:]]
_MEASURED = [field.name for field in dataclasses.fields(Measured)]


def read(path: pathlib.Path) -> Found:
    """Read results."""
    jobs = {job.file_name: job for job in auto_tcm.kept_models({})}
    found = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            scores = Scores(
                jobs[row["model"]],
                row["method"],
                int(row["top"]),
                int(row["cohort"]),
                row["is_of_means"] == "True",
            )
            found[scores] = Measured(*(float(row[name]) for name in _MEASURED))
    return found


def write(path: pathlib.Path, found: Found) -> None:
    """Write results."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *_SCORES, *_MEASURED])
    for scores, measured in found.items():
        numbers = (f"{x:.6g}" for x in dataclasses.astuple(measured))
        named = (getattr(scores, name) for name in _SCORES)
        writer.writerow([scores.job.file_name, *named, *numbers])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


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
        for name in ("frr", "promised_frr", "recall_at_1")
    ]
    lower = sum(log < 0 for log in logs)
    return f"{mean:+.1%}", f"{lower} of {len(logs)}", *(f"{x:+.2f}" for x in points)


_CHANGES = (
    "OPIS",
    "lower in",
    "FRR at FAR 1%",
    "FRR at the promise",
    "R@1",
)


def _held_out_table(found: Found) -> str:
    rows = []
    for arm in ("none", "auto"):
        kinds = dict.fromkeys(
            dataclasses.replace(scores, job=None)
            for scores in found
            if scores.job.held_out and scores.method != "none"
        )
        for kind in kinds:
            pairs = [
                (found[Scores(scores.job)], after)
                for scores, after in found.items()
                if scores.job.held_out
                and scores.job.arm == arm
                and dataclasses.replace(scores, job=None) == kind
            ]
            cohort = "class means" if kind.is_of_means else f"{kind.cohort:,}"
            model = "without TCM" if arm == "none" else "AutoTCM"
            name = METHODS[kind.method]
            rows.append((model, name, str(kind.top), cohort, *_change(pairs)))
    header = ("model", "method", "top", "cohort", *_CHANGES)
    return harness.markdown_table(header, rows)


def _arms(found: Found) -> dict[str, dict[Job, Measured]]:
    """Results on the test classes by what was done, and then by model without TCM."""
    arms: dict[str, dict[Job, Measured]] = {}
    for method in ("none", *METHODS):
        for arm in ("none", "auto"):
            words = ["AutoTCM"] if arm == "auto" else []
            words += [METHODS[method]] if method != "none" else []
            arms[" + ".join(words) or "without either"] = {
                scores.job.plain: measured
                for scores, measured in found.items()
                if not scores.job.held_out
                and (scores.method, scores.job.arm) == (method, arm)
            }
    return arms


def _summary_table(found: Found) -> str:
    arms = _arms(found)
    rows = []
    for before, after in (
        ("without either", "shift"),
        ("without either", "AS-norm"),
        ("without either", "AutoTCM"),
        ("without either", "AutoTCM + shift"),
        ("without either", "AutoTCM + AS-norm"),
        ("AutoTCM", "AutoTCM + shift"),
        ("AutoTCM", "AutoTCM + AS-norm"),
    ):
        pairs = [
            (arms[before][job], arms[after][job])
            for job in arms[after]
            if job in arms[before]
        ]
        rows.append((before, after, *_change(pairs)))
    return harness.markdown_table(("from", "to", *_CHANGES), rows)


def _model_table(found: Found) -> str:
    arms = _arms(found)
    rows = []
    for job, plain in arms["without either"].items():
        row = [job.cell]
        for by_job in arms.values():
            one = by_job.get(job)
            row += (
                ["-"]
                if one is None
                else [
                    f"{1000 * one.opis:.2f}, {100 * one.promised_frr:.1f}, "
                    f"{100 * one.recall_at_1:.1f}"
                ]
            )
        rows.append(tuple(row))
        assert plain
    return harness.markdown_table(("data set, network, base loss", *arms), rows)


def main() -> None:
    """Measure what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("measure", help="measure what is missing")
    command.add_argument("folder", type=pathlib.Path, help="embeddings of the models")
    command.add_argument("--out", type=pathlib.Path, default=RESULTS)
    command = commands.add_parser("report", help="print the tables")
    command.add_argument("file", type=pathlib.Path, nargs="?", default=RESULTS)
    args = parser.parse_args()
    if args.command == "report":
        print(report(read(args.file)))
        return
    found = read(args.out) if args.out.exists() else {}
    for scores in plan():
        is_there = (args.folder / scores.job.file_name).exists()
        if scores not in found and is_there:
            found[scores] = measure(scores, args.folder)
            write(args.out, found)
    print(f"{len(found)} results")


if __name__ == "__main__":
    main()
