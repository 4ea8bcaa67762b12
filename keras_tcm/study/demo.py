"""Train with and without TCM on the embedded glyphs, and compare."""

import dataclasses
import json
import pathlib
import sys
import time

import keras
import numpy as np

import keras_tcm
from keras_tcm import datasets
from keras_tcm.evaluation import Evaluation, evaluate_embeddings
from keras_tcm.study.evaluation_report import write_report
from keras_tcm.study.grid import BASE_LOSSES, TCMSetting
from keras_tcm.study.training import embed, train_embedding_model

# For each base loss, what `keras-tcm study --preset embedded` chose for the glyphs and
# `resnet_small` on held-out training classes.
TUNED = {
    "smooth_ap": TCMSetting(0.783, 0.593, 0.3),
    "multi_similarity": TCMSetting(0.571, 0.398, 0.1),
    "recall_at_k": TCMSetting(0.791, 0.614, 1.0),
    "supervised_contrastive": TCMSetting(0.733, 0.482, 0.3),
    "triplet_margin": TCMSetting(0.769, 0.534, 1.0),
}


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """What the demo trains.

    Attributes:
        loss: Name of the base loss, one of `TUNED`.
        tcm: Margins and weight of TCM. Defaults to those of `TUNED` for the loss.
        steps: Training steps of each model.
        seed: Seed of both models.
    """

    loss: str = "smooth_ap"
    tcm: TCMSetting | None = None
    steps: int = 2000
    seed: int = 0


def run_demo(
    out: pathlib.Path, settings: DemoSettings, data_dir: str | None = None
) -> dict[str, Evaluation]:
    """Train both models, evaluate them on the unseen classes and write a report.

    Writes `results.json` (settings, versions, figures), `table.md`, `utility.png`, and
    each `Evaluation` as JSON and as a page of HTML.

    Args:
        out: Folder to write to; made if missing.
        settings: What to train.
        data_dir: Where to cache the data set. Defaults to the Keras home.

    Returns:
        The two evaluations by name.
    """
    verbose = 1 if sys.stdout.isatty() else 2
    tcm = settings.tcm or TUNED[settings.loss]
    settings = dataclasses.replace(settings, tcm=tcm)
    base_loss = BASE_LOSSES[settings.loss]()
    name = type(base_loss).__name__
    losses = {name: base_loss, f"{name} + TCM": tcm.add_to(base_loss)}

    print("Rendering the glyphs, or reading them from the cache ...", flush=True)
    (x_train, y_train), (x_test, y_test) = datasets.load("glyphs", data_dir=data_dir)
    evaluations = {}
    seconds = {}
    for name, loss in losses.items():
        print(
            f"\n{name}: {settings.steps} steps on {len(x_train):,} images of "
            f"{len(np.unique(y_train))} classes ({keras.backend.backend()})",
            flush=True,
        )
        start = time.perf_counter()
        model, _ = train_embedding_model(
            x_train, y_train, loss, settings.steps, settings.seed, verbose=verbose
        )
        seconds[name] = round(time.perf_counter() - start, 1)
        embeddings = embed(model, x_test)
        evaluations[name] = evaluate_embeddings(embeddings, y_test)

    write_report(out, evaluations)
    record = {
        "settings": dataclasses.asdict(settings),
        "versions": {"keras_tcm": keras_tcm.__version__, "keras": keras.__version__},
        "backend": keras.backend.backend(),
        "training_seconds": seconds,
        "test": {"images": len(x_test), "classes": len(np.unique(y_test))},
        "results": {
            name: {
                "recall_at_1": evaluation.recall[1],
                "map_at_r": evaluation.map_at_r,
                "opis": evaluation.opis,
                "epsilon_opis": evaluation.epsilon_opis,
                "operating_points": [
                    {
                        "far_target": point.far_target,
                        "threshold": point.threshold if point.resolved else None,
                        "far": point.far if point.resolved else None,
                        "frr": point.frr if point.resolved else None,
                    }
                    for point in evaluation.operating_points
                ],
            }
            for name, evaluation in evaluations.items()
        },
    }
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    return evaluations
