"""Train with and without TCM on the embedded glyphs, and compare."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_tcm import datasets
from keras_tcm.evaluation import Evaluation
from keras_tcm.files import write_text
from keras_tcm.study.grid import (
    BASE_LOSSES,
    AutoTCMSetting,
    Cell,
    Run,
    TCMSetting,
)
from keras_tcm.study.pace import Pace, TooSlowError
from keras_tcm.study.report.document import paragraph, show
from keras_tcm.study.report.evaluation_report import write_report
from keras_tcm.study.run_record import RunRecord, package_versions, read_run
from keras_tcm.study.runner import do_run, prepare_folder
from keras_tcm.study.training import NUM_EPOCHS, Recipe
from keras_tcm.study.workers import worker_processes

# TCM by the name of the model; `None` without.
Models = Mapping[str, TCMSetting | AutoTCMSetting | None]

# Training steps of each model in the README's tables.
DEMO_STEPS = 2000
# What the results tell of an operating point.
_POINT = ("far_target", "threshold", "far", "frr")
# If both models took longer than this, they get fewer steps.
MINUTES = 20


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """What the demo trains.

    Attributes:
        loss: Name of the base loss, one of `BASE_LOSSES`.
        tcm: Margins and weight of TCM. Defaults to `None`: `AutoTCM`, which needs none.
        steps: Training steps of each model, rounded up to a multiple of 8. Defaults to
            `None`: `DEMO_STEPS`, or as many as both models can do in `MINUTES`, if the
            first steps show that this is less.
        seed: Seed of both models.
    """

    loss: str = "multi_similarity"
    tcm: TCMSetting | None = None
    steps: int | None = None
    seed: int = 0

    def run(self, tcm: TCMSetting | AutoTCMSetting | None, steps: int) -> Run:
        """Return what a study would call one of the two trainings."""
        steps = NUM_EPOCHS * -(-steps // NUM_EPOCHS)
        cell = Cell("glyphs", Recipe(), self.loss, batch_size=128, steps=steps)
        return Run("comparison", cell, tcm, self.seed)


def run_demo(
    out: pathlib.Path, settings: DemoSettings, data_dir: str | None = None
) -> tuple[dict[str, Evaluation], int]:
    """Train both models, evaluate them on the unseen classes and write a report.

    Writes `results.json` (settings, versions, figures), `table.md`, `utility.png`, and
    each `Evaluation` as JSON and as a page of HTML. Each model is kept in `runs`, as
    one of a study is, at once when it is finished: stopped at any point, the demo goes
    on with what is missing when it is called again with the same settings.

    Args:
        out: Folder to write to; made if missing.
        settings: What to train.
        data_dir: Where to cache the data set. Defaults to the Keras home.

    Returns:
        The two evaluations by name, and the training steps of each model.
    """
    tcm = settings.tcm or AutoTCMSetting()
    name = BASE_LOSSES[settings.loss].__name__
    models: Models = {name: None, f"{name} + {tcm.arm}": tcm}
    _say(
        "Two small networks learn to tell Latin letters and digits apart, one with "
        f"{name}, one with {name} + {tcm.arm}, and are tested on scripts that neither "
        f"has seen ({keras.backend.backend()}). Stopped by Ctrl-C, the demo goes on "
        "with the model that is not finished when it is started again."
    )
    _say("Drawing the characters, or reading them from the cache ...")
    data = datasets.load("glyphs", data_dir=data_dir)
    (x_train, y_train), (x_test, y_test) = data
    folder = out / "runs"
    prepare_folder(folder)
    notes = {"data": _digest(data)}
    finished, steps = _finished(folder, settings, models, notes)
    missing = {name: models[name] for name in models if name not in finished}
    if missing:
        is_free = settings.steps is None and not finished
        _say(
            f"Training on {len(x_train):,} images of {len(np.unique(y_train))} "
            f"characters, {steps:,} steps for each model"
            + (
                f": some 5 to {MINUTES} minutes in all, with fewer steps on a machine "
                "where these would take longer."
                if is_free
                else ". The first ones show how long it takes."
            )
        )
        limit = 60.0 * MINUTES if is_free else None
        with worker_processes(1) as submit:
            steps = submit(
                _train, missing, folder, settings, steps, data_dir, notes, limit
            ).result()
        for name, setting in missing.items():
            finished[name] = read_run(settings.run(setting, steps).path(folder))
    evaluations = {name: finished[name].evaluation() for name in models}
    write_report(
        out,
        evaluations,
        class_names=datasets.glyphs.class_names(data_dir),
        images=x_test,
        labels=y_test,
    )
    made_by = next(iter(finished.values()))
    record = {
        "settings": {
            **dataclasses.asdict(settings),
            "tcm": dataclasses.asdict(tcm),
            "steps": steps,
        },
        "steps_in_the_readme": DEMO_STEPS,
        "versions": dict(made_by.versions),
        "backend": made_by.backend,
        "training_seconds": {name: finished[name].seconds for name in models},
        "test": {"images": len(x_test), "classes": len(np.unique(y_test))},
        "results": {
            name: {
                "recall_at_1": evaluation.recall[1],
                "map_at_r": evaluation.map_at_r,
                "opis": evaluation.opis,
                "epsilon_opis": evaluation.epsilon_opis,
                "operating_points": [
                    {name: point[name] for name in _POINT}
                    for point in evaluation.to_dict()["operating_points"]
                ],
            }
            for name, evaluation in evaluations.items()
        },
    }
    write_text(out / "results.json", json.dumps(record, indent=2) + "\n")
    return evaluations, steps


def _say(text: str) -> None:
    show(paragraph(text))


# -------------------------------------------------------------------- finished models


def _digest(data: tuple[tuple[np.ndarray, np.ndarray], ...]) -> str:
    digest = hashlib.sha256()
    for arrays in data:
        for array in arrays:
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _finished(
    folder: pathlib.Path,
    settings: DemoSettings,
    models: Models,
    notes: Mapping[str, Any],
) -> tuple[dict[str, RunRecord], int]:
    """Find the models that a demo of the same settings has finished.

    Returns:
        Their records by name, and the training steps of those that are missing.
    """
    steps = settings.run(None, settings.steps or DEMO_STEPS).cell.steps
    is_free = settings.steps is None
    finished = {}
    paths = set()
    for name, setting in models.items():
        run = settings.run(setting, steps)
        path = run.path(folder)
        paths.add(path)
        if not path.exists():
            continue
        try:
            record = read_run(path)
            record.evaluation()
        except ValueError as error:
            _say(f"{error}. {name} is trained anew.")
            continue
        # The number of steps was chosen then: it holds for the other model as well.
        if is_free and record.notes.get("shortened"):
            run = settings.run(setting, record.run.cell.steps)
        differences = _differences(record, run, notes)
        if differences:
            _say(
                f"{name} is trained anew, for {path} has other settings: "
                f"{'; '.join(differences)}."
            )
            continue
        print(f"{name} has been trained before:\n  {path}")
        finished[name] = record
        steps, is_free = run.cell.steps, False
    others = set(folder.glob("*.json")) - paths
    if others:
        _say(f"{folder} has {len(others)} more of other settings, not used here.")
    return finished, steps


def _differences(record: RunRecord, run: Run, notes: Mapping[str, Any]) -> list[str]:
    """Say in what a record differs from what the run would write now."""
    found, expected = (
        {**config, **versions, "backend": backend, "data": data.get("data")}
        for config, versions, backend, data in (
            (record.run.config(), record.versions, record.backend, record.notes),
            (run.config(), package_versions(), keras.backend.backend(), notes),
        )
    )
    return [
        f"{key} {found.get(key)}, now {expected.get(key)}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]


# --------------------------------------------------------------------------- training


def _train(
    models: Models,
    folder: pathlib.Path,
    settings: DemoSettings,
    steps: int,
    data_dir: str | None,
    notes: Mapping[str, Any],
    limit: float | None,
) -> int:
    """Train models, tell how it goes, and write their records.

    They get fewer steps where so many would take all of them longer than a limit, in
    seconds.

    Returns:
        The training steps of each.
    """
    pace = Pace(len(models), limit)
    for name, setting in models.items():
        print(f"\n{name}", flush=True)
        while True:
            run = settings.run(setting, steps)
            path = run.path(folder)
            try:
                do_run(run, path, data_dir, notes, [pace])
                break
            except TooSlowError as error:
                # From the start: the learning rates of all steps depend on their
                # number.
                steps = error.steps
                notes = {**notes, "shortened": True}
        print(f"  {read_run(path).in_short()}", flush=True)
    return steps
