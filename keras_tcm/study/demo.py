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
from keras_tcm.losses import TCM
from keras_tcm.study.grid import BASE_LOSSES
from keras_tcm.study.report import write_report
from keras_tcm.study.training import embed, train_embedding_model


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """What the demo trains.

    Attributes:
        loss: Name of the base loss.
        positive_margin: Positive margin of TCM.
        negative_margin: Negative margin of TCM.
        tcm_weight: Weight of TCM beside the base loss.
        steps: Training steps of each model.
        seed: Seed of both models.
    """

    loss: str = "smooth_ap"
    positive_margin: float = 0.7
    negative_margin: float = 0.3
    tcm_weight: float = 0.2
    steps: int = 2000
    seed: int = 0


def run_demo(
    out: pathlib.Path, settings: DemoSettings, data_dir: str | None = None
) -> dict[str, Evaluation]:
    """Train both models, evaluate them on the unseen classes and write a report.

    Writes `results.json` (settings, versions, figures), `table.md`, `utility.png`, and
    each `Evaluation` as JSON.

    Args:
        out: Folder to write to; made if missing.
        settings: What to train.
        data_dir: Where to cache the data set. Defaults to the Keras home.

    Returns:
        The two evaluations by name.
    """
    verbose = 1 if sys.stdout.isatty() else 2
    tcm = TCM(settings.positive_margin, settings.negative_margin)
    base_loss = BASE_LOSSES[settings.loss]()
    losses = {
        f"{type(base_loss).__name__}": base_loss,
        f"{type(base_loss).__name__} + TCM": base_loss + settings.tcm_weight * tcm,
    }

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
