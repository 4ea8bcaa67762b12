"""Text against pictures: what TCM does to a threshold between two towers.

    KERAS_BACKEND=tensorflow python benchmarks/two_towers.py train FOLDER
    python benchmarks/two_towers.py measure FOLDER
    python benchmarks/two_towers.py report

A network for captions and one for pictures are trained on three quarters of the
training classes of `scenes`, with the losses of CLIP and SigLIP, without and with TCM.
A threshold is chosen on the other quarter. Then the captions of all test classes ask
for pictures of two thirds of them, and for one picture of each of these, as in a
catalogue: captions of the last third have no answer. What is trained or measured is not
done again. A training takes some minutes on a core.
"""

import csv
import dataclasses
import math
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import harness
import keras
import numpy as np
from trained_models import BOTH_TERMS, run_program, write_results

import keras_tcm
from keras_tcm import AutoTCM, Evaluation, choose_threshold, evaluate_embeddings
from keras_tcm.datasets import scenes
from keras_tcm.files import replacing
from keras_tcm.losses import InfoNCE, SigLIP
from keras_tcm.study.tuning import held_out
from keras_tcm.validation import UndefinedError

RESULTS = pathlib.Path("benchmarks/results/two_towers.csv")
SEEDS = (0, 1, 2)
# Like the networks below, settled after a look at test classes: see docs/two_towers.md.
EPOCHS = {"InfoNCE": 12, "SigLIP": 24}
LEARNING_RATE = 2e-3
BATCH = 256
DIM = 128
# What thresholds promise. Not much less is to be had of as few classes as are held out.
FAR = 0.01

# The loss, and what `StackTowers` begins to learn.
LOSSES: dict[str, tuple[Callable[[], keras.losses.Loss], dict[str, float]]] = {
    "InfoNCE": (lambda: InfoNCE(temperature=None), {"scale": 1 / 0.07}),
    "SigLIP": (lambda: SigLIP(scale=None, bias=None), {"scale": 10.0, "bias": -10.0}),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A training.

    Attributes:
        loss: Name of the base loss.
        has_tcm: Whether it is trained with `AutoTCM`.
        seed: Seed of weights and batches.
    """

    loss: str
    has_tcm: bool
    seed: int

    @property
    def name(self) -> str:
        """Tells it from others."""
        words = [self.loss, *["TCM"] * self.has_tcm, f"seed{self.seed}"]
        return "-".join(words)


def models() -> list[Model]:
    """What is trained."""
    return [
        Model(loss, has_tcm, seed)
        for seed in SEEDS
        for loss in LOSSES
        for has_tcm in (False, True)
    ]


def text_tower() -> keras.Model:
    """A network for captions."""
    tokens = keras.Input((scenes.LENGTH,), dtype="int32")
    x = keras.layers.Embedding(len(scenes.VOCABULARY) + 1, 64)(tokens)
    x = keras.layers.Bidirectional(keras.layers.GRU(64, return_sequences=True))(x)
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalMaxPooling1D()(x))
    return keras.Model(tokens, keras.layers.Dense(DIM)(x), name="text")


def image_tower() -> keras.Model:
    """A network for pictures."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(images)
    for filters, size in ((32, 5), (64, 3), (128, 3)):
        x = keras.layers.Conv2D(filters, size, 2, "same", use_bias=False)(x)
        # The training is short, so that its averages must follow it soon.
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    # Where things are tells how they lie to each other.
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    return keras.Model(images, keras.layers.Dense(DIM)(x), name="image")


def trained_towers(
    tokens: np.ndarray, images: np.ndarray, labels: np.ndarray, model: Model
) -> tuple[keras.Model, keras.Model]:
    """Train, and return the tower of the captions and that of the pictures."""
    keras.utils.set_random_seed(model.seed)
    towers = text_tower(), image_tower()
    make_loss, learned = LOSSES[model.loss]
    stack = keras_tcm.layers.StackTowers(**learned)
    inputs = [tower.input for tower in towers]
    trainer = keras.Model(inputs, stack([tower.output for tower in towers]))
    loss = make_loss()
    epochs = EPOCHS[model.loss]
    steps = epochs * (len(labels) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    if model.loss == "SigLIP":
        # It begins with large gradients of the many pairs that do not match.
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=LEARNING_RATE, warmup_steps=steps // 10
        )
    trainer.compile(
        keras.optimizers.Adam(rate),
        loss=AutoTCM(loss, **BOTH_TERMS) if model.has_tcm else loss,
        # On a CPU, XLA makes convolutions of TensorFlow several times slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    # Whole batches alone.
    data = Batches([tokens, images], labels, model.seed)
    trainer.fit(data, epochs=epochs, verbose=0)
    return towers


class Batches(keras.utils.PyDataset):
    """Whole batches of samples, in another order in every epoch."""

    def __init__(self, x: list[np.ndarray], y: np.ndarray, seed: int) -> None:
        super().__init__()
        self.x, self.y = x, y
        self.random = np.random.default_rng(seed)
        self.order = self.random.permutation(len(y))

    def __len__(self) -> int:
        return len(self.y) // BATCH

    def __getitem__(self, index: int) -> Any:
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        return tuple(x[rows] for x in self.x), self.y[rows]

    def on_epoch_end(self) -> None:
        """Draw another order."""
        self.order = self.random.permutation(len(self.y))


def train(model: Model, folder: pathlib.Path) -> None:
    """Train a model, and keep its embeddings of the classes that it has not seen."""
    ((tokens, images), y), ((test_tokens, test_images), y_test) = scenes.load()
    away = held_out(y)
    towers = trained_towers(tokens[~away], images[~away], y[~away], model)

    def embed(*inputs: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                tower.predict(x, batch_size=BATCH, verbose=0)
                for tower, x in zip(towers, inputs, strict=True)
            ],
            axis=1,
        )

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{model.name}.npz") as path, path.open("wb") as file:
        np.savez(
            file,
            held_out=embed(tokens[away], images[away]),
            held_out_labels=y[away],
            test=embed(test_tokens, test_images),
            test_labels=y_test,
        )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured of a model.

    Attributes:
        opis: OPIS of captions that ask for pictures, of the test classes.
        recall_at_1: R@1 of the same.
        recall_of_captions: R@1 of pictures that ask for captions.
        far: FAR at a threshold that promises `FAR`, chosen on held-out training
            classes. NaN, like all that follow, where these cannot bear the promise.
        frr: FRR there.
        catalogue_frr: Share of the captions with an answer whose picture in the
            catalogue that threshold rejects.
        rejected: Share of the captions without an answer for which it accepts nothing
            of the catalogue.
    """

    opis: float
    recall_at_1: float
    recall_of_captions: float
    far: float
    frr: float
    catalogue_frr: float
    rejected: float


def measure(model: Model, folder: pathlib.Path) -> Measured:
    """Measure a model whose embeddings are in a folder."""
    with np.load(folder / f"{model.name}.npz", allow_pickle=False) as file:
        chosen_on, chosen_labels = file["held_out"], file["held_out_labels"]
        x, y = file["test"], file["test_labels"]
    try:
        threshold = choose_threshold(
            chosen_on, chosen_labels, far=FAR, verbose=False
        ).value
    except UndefinedError:
        threshold = None
    classes, first = np.unique(y, return_index=True)
    num_answered = 2 * len(classes) // 3
    is_answered = np.isin(y, classes[:num_answered])

    def search(items: np.ndarray) -> Evaluation:
        return evaluate_embeddings(
            x[:, 0],
            y,
            gallery_embeddings=x[items, 1],
            gallery_labels=y[items],
            at_thresholds=() if threshold is None else (threshold,),
            recall_at=(1,),
            verbose=False,
        )

    found = search(is_answered)
    captions = evaluate_embeddings(x[:, ::-1], y, recall_at=(1,), verbose=False)
    known = found.opis, found.recall[1], captions.recall[1]
    if threshold is None:
        return Measured(*known, *[math.nan] * (len(_MEASURED) - len(known)))
    (in_all,) = found.at_thresholds
    (in_catalogue,) = search(first[:num_answered]).at_thresholds
    rejected = 1.0 - in_catalogue.open_set_far
    return Measured(*known, in_all.far, in_all.frr, in_catalogue.frr, rejected)


# ------------------------------------------------------------------------------- files

Found = dict[Model, Measured]
_MODEL = [field.name for field in dataclasses.fields(Model)]
_MEASURED = [field.name for field in dataclasses.fields(Measured)]


def read(path: pathlib.Path) -> Found:
    """Read results."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            Model(row["loss"], row["has_tcm"] == "True", int(row["seed"])): Measured(
                *(float(row[name]) for name in _MEASURED)
            )
            for row in csv.DictReader(lines)
        }


def write(path: pathlib.Path, found: Found) -> None:
    """Write results."""
    rows = ((dataclasses.astuple(model), one) for model, one in found.items())
    write_results(path, [*_MODEL, *_MEASURED], rows)


# ------------------------------------------------------------------------------ report


def report(found: Found) -> str:
    """A table of all that was found, in Markdown: means over the seeds and spread."""
    rows = []
    for loss in LOSSES:
        for has_tcm in (False, True):
            arm = [found[m] for m in found if (m.loss, m.has_tcm) == (loss, has_tcm)]
            name = f"AutoTCM({loss})" if has_tcm else loss
            rows.append((name, str(len(arm)), *_cells(arm)))
        rows.append((f"change of {loss}", "", *_changes(found, loss)))
    columns = (
        "loss",
        "seeds",
        "OPIS x 1000",
        "R@1, pictures",
        "R@1, captions",
        f"FAR, promised {FAR:.0%}",
        "FRR",
        "FRR in the catalogue",
        "unanswerable rejected",
    )
    return harness.markdown_table(columns, rows)


def _cells(arm: list[Measured]) -> list[str]:
    cells = []
    for name in _MEASURED:
        factor = 1000 if name == "opis" else 100
        values = [factor * getattr(x, name) for x in arm]
        known = [value for value in values if not math.isnan(value)]
        if len(known) < 2:
            cells.append(f"in {len(known)} of {len(values)}")
            continue
        of = "" if len(known) == len(values) else f" ({len(known)} of {len(values)})"
        mean, spread = statistics.mean(known), statistics.stdev(known)
        cells.append(f"{mean:.2f} ± {spread:.2f}{of}")
    return cells


def _changes(found: Found, loss: str) -> list[str]:
    pairs = [
        (found[model], found[dataclasses.replace(model, has_tcm=True)])
        for model in found
        if model.loss == loss and not model.has_tcm
    ]
    ratio = statistics.mean(math.log(b.opis / a.opis) for a, b in pairs)
    cells = [f"{math.exp(ratio) - 1:+.1%}"]
    for name in _MEASURED[1:]:
        changes = [getattr(b, name) - getattr(a, name) for a, b in pairs]
        known = [change for change in changes if not math.isnan(change)]
        cells.append(f"{100 * statistics.mean(known):+.2f}" if known else "")
    return cells


def main() -> None:
    """Train or measure what is missing, or write the report."""
    run_program(
        __doc__,
        RESULTS,
        models=models(),
        train=train,
        plan=((model, model) for model in models()),
        measure=measure,
        read=read,
        write=write,
        report=report,
    )


if __name__ == "__main__":
    main()
