"""The program behind the constants of AutoTCM: its plans, its files and its tables."""

import csv
import dataclasses
import importlib.util
import pathlib

import auto_tcm
import auto_tcm_results
import keras
import numpy as np
import pytest
from auto_tcm_results import Job, Result
from processes import finish, start

import keras_tcm

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = [
    ROOT / "benchmarks" / "results" / f"auto_tcm_{device}.csv"
    for device in ("h100", "cpu")
]
PLAIN = Job("glyphs", "resnet_small", "smooth_ap", 0)
TUNED = dataclasses.replace(
    PLAIN, arm="tcm", positive_margin=0.8, negative_margin=0.4, weight=0.3
)


def result(opis=0.004, recall_at_1=0.8, near=0.3, far=0.6):
    return Result(opis, 0.03, recall_at_1, 0.7, near, far, 12.0)


def published():
    return {
        job: one
        for path in PUBLISHED
        for job, one in auto_tcm_results.read(path).items()
    }


def tables(text):
    """Rows of cells of each table, by the heading above it."""
    found = {}
    for line in text.splitlines():
        if line.startswith("## "):
            rows = found.setdefault(line[3:], [])
        elif line.startswith("|") and not line.startswith("| -"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_results_are_read_as_they_were_written(tmp_path):
    other = dataclasses.replace(
        auto_tcm.both(PLAIN, 0.5), held_out=True, noise=0.1, rule="gentle, at first"
    )
    found = {PLAIN: result(), TUNED: result(0.002), other: result(0.001)}
    auto_tcm_results.write(tmp_path / "new" / "results.csv", found)
    assert auto_tcm_results.read(tmp_path / "new" / "results.csv") == found


def test_report_by_hand(tmp_path):
    path = tmp_path / "results.csv"
    names = [field.name for kind in (Job, Result) for field in dataclasses.fields(kind)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for dataset, seed, ratio, points in (
            ("glyphs", 0, 0.5, 2),
            ("glyphs", 1, 0.25, 4),
            ("codes", 0, 2, -1),
            ("codes", 1, 1, 0),
            # One cell alone has this seed.
            ("glyphs", 2, 0.1, 9),
        ):
            row = {
                **{"dataset": dataset, "network": "resnet_small", "loss": "smooth_ap"},
                **{"seed": seed, "opis": 0.004, "epsilon_opis": 0.03},
                **{"recall_at_1": 0.8, "map_at_r": 0.7},
                **{"nearest": 0.3, "farthest": 0.6, "seconds": 12},
            }
            writer.writerow(row)
            changed = {"opis": 0.004 * ratio, "recall_at_1": 0.8 + points / 100}
            constants = {"strength": 0.25, "far_low": 0.01, "far_high": 0.1}
            writer.writerow({**row, **changed, **constants, "arm": "auto"})
    found = tables(auto_tcm_results.report(auto_tcm_results.read(path)))
    _, summary, _, *cells = found["Comparison on the test classes"]
    # The seeds that both have: log ratios (log 1/2 + log 2) / 2 = 0 and -log 2, whose
    # mean is -0.3466 -+ 12.7062 * 0.3466; points 0.5 and 2, 1.25 -+ 12.7062 * 0.75.
    assert summary == [
        *("strength 0.25", "2, 2", "-29.3% [-99.1%, +5680.4%]", "1"),
        "+41.4% (codes, resnet_small, smooth_ap)",
        *("+1.25 [-8.28, +10.78]", "1", "-0.50 (codes, resnet_small, smooth_ap)"),
    ]
    assert [row[0] for row in cells] == [
        "codes, resnet_small, smooth_ap",
        "glyphs, resnet_small, smooth_ap",
    ]
    assert [row[1:3] for row in cells] == [["4.00", "80.00"]] * 2
    assert cells[1][3].startswith("-64.6% [")
    assert cells[1][4].startswith("+3.00 [")


def test_tuned_arm_is_chosen_as_in_the_study():
    """Margins from the model without TCM, a weight for each network and base loss."""
    found = {}
    plan = auto_tcm.comparison
    steps = []
    while missing := [job for job in plan(found) if job not in found]:
        steps.append(len(missing))
        for job in missing:
            # The larger the better, until it costs R@1 on one network.
            costs = job.weight == 1 and job.network == "vit_tiny"
            found[job] = result(
                0.004 / (1 + job.weight), 0.7 if costs else 0.8, near=0.2, far=0.65
            )
    # 16 without TCM; three weights of each; five seeds in five arms.
    assert steps == [16, 48, 400]
    chosen = {
        (job.network, job.weight): (job.positive_margin, job.negative_margin)
        for job in found
        if job.arm == "tcm" and not job.held_out
    }
    assert chosen == {
        ("resnet_small", 1.0): (0.8, 0.35),
        ("vit_tiny", 0.3): (0.8, 0.35),
    }


@pytest.mark.parametrize("name", auto_tcm.PLANS)
def test_plans_pair_each_model_with_one_without_tcm(name):
    jobs = auto_tcm.PLANS[name]({})
    assert len(set(jobs)) == len(jobs)
    assert {job.plain for job in jobs} <= set(jobs)
    assert all(job.steps % 8 == 0 for job in jobs)


def test_published_results_are_those_of_the_plans():
    """What tells which is which is read back as it was written."""
    found = published()
    planned = [
        job
        for plan in (auto_tcm.comparison, auto_tcm.base_losses, auto_tcm.robustness)
        for job in plan(found)
    ]
    # Of these, one seed, and of other plans a part.
    few = {
        made(job.plain) for job in planned for made in (auto_tcm.auto, auto_tcm.pulling)
    }
    assert {job.seed for job in few if job in found} == {0}
    for made in auto_tcm.auto, auto_tcm.pulling:
        assert found.keys() >= {made(job) for job in auto_tcm.grid([0])}
    assert {job.seed for job in set(planned) - few if job not in found} == {3, 4}
    assert sum(path.stat().st_size for path in PUBLISHED) < 250_000


def test_page_has_the_tables_of_the_published_results():
    def squeezed(text):
        return "\n".join(" ".join(line.split()) for line in text.splitlines())

    page = squeezed((ROOT / "docs" / "auto_tcm.md").read_text(encoding="utf-8"))
    report = squeezed(auto_tcm_results.report(published()))
    for block in report.split("\n\n"):
        if block.startswith("|"):
            # But for the rule below the header, whose width may differ.
            for line in block.splitlines():
                assert line.startswith("| -") or line in page.splitlines()


@pytest.mark.parametrize(
    "job",
    [
        auto_tcm.auto(PLAIN, 0.5, 0.02, 0.3),
        auto_tcm.auto(PLAIN, 0.5, 0.02, 0.3, "0.25"),
        TUNED,
        PLAIN,
    ],
)
def test_constants_are_those_of_the_loss(job):
    x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    y = np.repeat(np.arange(4), 4)
    numbers = {
        name: keras.ops.convert_to_tensor(value, "float32")
        for name, value in vars(job).items()
        if isinstance(value, float)
    }
    base = keras_tcm.losses.SmoothAP()
    options = {"negative_weight": 0.25} if job.negative_weight else {}
    expected = {
        "auto": lambda: keras_tcm.AutoTCM(base, 0.5, (0.02, 0.3), **options),
        "tcm": lambda: base + 0.3 * keras_tcm.TCM(0.8, 0.4),
        "none": lambda: base,
    }[job.arm]()
    found = auto_tcm.make_loss(job, numbers)(y, x)
    assert float(found) == pytest.approx(float(expected(y, x)), rel=1e-5)


SCRIPT = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import auto_tcm
import numpy as np
from auto_tcm_results import Job, read
from keras_tcm import AutoTCM
from keras_tcm.losses import MultiSimilarity
from keras_tcm.study.training import embed

def plan(found):
    return [auto_tcm.auto(
        Job("digits", "resnet_small", "multi_similarity", 1, True, 8, 8), 0.5
    )]

if __name__ == "__main__":
    path = pathlib.Path(sys.argv[2])
    auto_tcm.complete(path, plan, 1, 1)
    ((job, found),) = read(path).items()
    # Nothing is left to do.
    auto_tcm.complete(path, plan, 0, 0)

    x, y, x_new, _ = auto_tcm.split("digits", True)
    model = auto_tcm.make_model(job, x.shape[1:], 3)
    model.compile(model.optimizer, loss=AutoTCM(MultiSimilarity(), 0.5))
    for here in auto_tcm.batches(job, y):
        model.train_on_batch(x[here], y[here])
    expected = auto_tcm.measure(job, embed(model, x_new), 0.0)
    for name in "opis", "recall_at_1", "map_at_r", "nearest":
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=2e-3
        )
"""


@pytest.mark.slow
def test_compiled_training_is_that_of_keras(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("the loop is JAX's")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    process = start(
        *(script, ROOT / "benchmarks", tmp_path / "results.csv"), KERAS_BACKEND="jax"
    )
    output, _ = finish(process)
    assert output.splitlines() == ["1 trainings", "1 results"]
