"""Makes folders of studies without training anything."""

import functools
import json

import numpy as np

from keras_tcm import evaluate_embeddings

TCM = {"positive_margin": 0.7, "negative_margin": 0.4, "weight": 0.3}
AUTO = {"strength": 0.5}


@functools.cache
def evaluation(seed=0, spread=0.7, num_classes=10):
    """JSON of the evaluation of random embeddings."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), 6)
    x = rng.normal(size=(num_classes, 6))[y]
    x = x + spread * rng.uniform(0.5, 1.5, num_classes)[y, None] * rng.normal(
        size=x.shape
    )
    return json.dumps(evaluate_embeddings(x, y, far_targets=(0.1,)).to_dict())


def run(
    part="comparison",
    dataset="glyphs",
    backbone="resnet_small",
    loss="smooth_ap",
    batch_size=128,
    seed=0,
    tcm=None,
    measures=(),
    evaluation_seed=0,
    spread=0.7,
    **config,
):
    """What the file of a run holds; `measures` replaces figures of its evaluation."""
    values = json.loads(evaluation(evaluation_seed, spread))
    for name, value in dict(measures).items():
        if name == "recall_at_1":
            values["recall"]["1"] = value
        else:
            values[name] = value
    return {
        "format": 1,
        "part": part,
        "config": {
            "dataset": dataset,
            "backbone": backbone,
            "loss": loss,
            "batch_size": batch_size,
            "steps": 1000,
            "seed": seed,
            "tcm": tcm,
            "learning_rate": 0.002,
            "warmup": 0.0,
            "embedding_dim": 64,
            "image_size": None,
            "weights": None,
            "freeze_batch_norm": False,
            "flip": False,
            **config,
        },
        "versions": {"keras_tcm": "0.1.0", "keras": "3.15.1", "python": "3.11.9"},
        "backend": "tensorflow",
        "machine": "x86_64, 1 threads",
        "seconds": {"training": 70.0 if tcm is None else 72.0, "evaluation": 2.0},
        "history": {"loss": [2.0, 1.0]},
        "evaluation": values,
    }


def write_runs(folder, runs):
    """Write the files, with names that say nothing."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for number, values in enumerate(runs):
        path = folder / "runs" / f"run{number:03}.json"
        path.write_text(json.dumps(values), encoding="utf-8")
    return folder


def pair(without, with_tcm, **options):
    """A run without and a run with TCM, with the given measures."""
    tcm = options.pop("tcm", TCM)
    return [
        run(measures=without, **options),
        run(measures=with_tcm, tcm=tcm, **options),
    ]


def measures(recall_at_1=0.8, opis=0.004, epsilon_opis=0.03):
    return {"recall_at_1": recall_at_1, "opis": opis, "epsilon_opis": epsilon_opis}


def whole_study(
    datasets=("glyphs", "codes"),
    seeds=(0, 1, 2),
    batch_sizes=(32, 128),
    seed=0,
    arms=(TCM,),
):
    """Runs of all parts, with random measures."""
    rng = np.random.default_rng(seed)

    def random_models(arms=arms, effect=0.2, **options):
        recall, opis = rng.uniform(0.8, 0.9), 0.004 * np.exp(0.3 * rng.normal())
        models = [run(measures=measures(recall, opis, 7 * opis), **options)]
        for tcm in arms:
            after = opis * np.exp(-effect + 0.1 * rng.normal())
            found = measures(recall + 0.01 * rng.normal(), after, 7 * after)
            models.append(run(measures=found, tcm=tcm, **options))
        return models

    runs = []
    for dataset in datasets:
        for backbone in "resnet_small", "vit_tiny":
            for loss in "multi_similarity", "smooth_ap":
                place = {"dataset": dataset, "backbone": backbone, "loss": loss}
                for number in seeds:
                    runs += random_models(**place, seed=number, evaluation_seed=number)
                weights = [{**TCM, "weight": weight} for weight in (0.1, 0.3, 1.0)]
                runs += random_models(weights, part="tuning", **place)
    for loss in "multi_similarity", "smooth_ap", "triplet_margin":
        for batch_size in batch_sizes:
            runs += random_models(part="sweep", loss=loss, batch_size=batch_size)
    return runs
