"""The toy of the method: digits on a circle, with and without TCM."""

import dataclasses
import json
import pathlib
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_tcm
from keras_tcm import models
from keras_tcm.data import ClassBalancedSampler
from keras_tcm.datasets import digits
from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.files import write_text
from keras_tcm.losses import TCM, ArcFace
from keras_tcm.study.report.figures import save_figure
from keras_tcm.study.training import NUM_EPOCHS, cosine_schedule
from keras_tcm.validation import check_choice, check_integer
from keras_tcm.visualization import plot_circle
from keras_tcm.visualization.pyplot import pyplot

Split = tuple[np.ndarray, np.ndarray]

DATA = ("auto", "mnist", "digits")
NUM_CLASSES = 10
# From a higher one, classes of MNIST get caught on top of each other.
LEARNING_RATES = {"mnist": 2e-3, "digits": 5e-3}

# Seconds without an answer from the network after which MNIST counts as out of reach.
_TIMEOUT = 10.0
# The test images are the same ones whatever the seed of a training.
_SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class ToySettings:
    """What the toy trains. Chosen on training images alone.

    Attributes:
        learning_rate: The greatest learning rate.
        seed: Seed of both models.
        steps: Training steps of each model, rounded up to a multiple of 8.
        samples_per_class: Images of each class in a batch. Few leave a class behind
            the direction of another.
        warmup: Share of the steps in which the learning rate rises to it.
        arc_face_margin: Margin of ArcFace in radians.
        arc_face_scale: Scale of ArcFace.
        positive_margin: Positive margin of TCM.
        negative_margin: Negative margin of TCM. Ten evenly spaced classes have a
            similarity of 0.81 to their neighbours.
        tcm_weight: Weight of TCM beside ArcFace.
    """

    learning_rate: float
    seed: int = 0
    steps: int = 2000
    samples_per_class: int = 16
    warmup: float = 0.1
    arc_face_margin: float = 0.3
    arc_face_scale: float = 64.0
    positive_margin: float = 0.98
    negative_margin: float = 0.85
    tcm_weight: float = 8.0


def run_toy(
    out: pathlib.Path, data: str = "auto", seed: int = 0, steps: int = 2000
) -> dict[str, Any]:
    """Train both models on digits and draw their embeddings around the unit circle.

    A small network embeds digits in two dimensions, where a direction is all that there
    is to see. It is trained with `ArcFace`, and from the same seed with `ArcFace` and
    TCM. Both are tested on other images of the same ten classes.

    Writes `toy.json` (settings, versions, measures) and `toy.png`.

    Args:
        out: Folder to write to; made if missing.
        data: `"mnist"`, which Keras downloads if it is not in its cache; `"digits"`,
            the 1,797 smaller ones of `datasets.digits`, a third of which are for the
            test; or `"auto"`: MNIST where it can be had, else the digits, with a
            message that says so. Defaults to `"auto"`.
        seed: Seed of the weights and of the batches. Defaults to 0.
        steps: Training steps of each model, rounded up to a multiple of 8. Defaults to
            2000.

    Returns:
        What `toy.json` holds: under `"results"` and the name of each model its
        `accuracy`, `recall_at_1`, `opis` and `epsilon_opis`, and by class, in degrees,
        its mean direction, the gap from there to the next class counterclockwise, its
        circular standard deviation and the arc around the mean that holds 90% of it.

    Raises:
        ConnectionError: If `data` is `"mnist"`, and it cannot be had.
        ImportError: If matplotlib is not installed.
        TypeError: If `seed` or `steps` is not an integer.
        ValueError: If `data` is unknown, or `seed` or `steps` is out of range.

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """
    check_choice("data", data, DATA)
    seed = check_integer("seed", seed, 0)
    steps = check_integer("steps", steps, 1)
    pyplot()  # Raises before any work is done.
    data, train, test = load_data(data)
    out.mkdir(parents=True, exist_ok=True)
    settings = ToySettings(LEARNING_RATES[data], seed, steps)

    arc_face = ArcFace(settings.arc_face_margin, settings.arc_face_scale)
    tcm = TCM(settings.positive_margin, settings.negative_margin)
    losses: dict[str, dict[str, Any]] = {
        "ArcFace": {"cosines": arc_face},
        "ArcFace + TCM": {"cosines": arc_face, "embedding": settings.tcm_weight * tcm},
    }
    results, embeddings, seconds = {}, {}, {}
    for name, loss in losses.items():
        print(
            f"\n{name}: {settings.steps} steps on {len(train[0]):,} images of {data} "
            f"({keras.backend.backend()})",
            flush=True,
        )
        start = time.perf_counter()
        model = train_model(train, loss, settings)
        seconds[name] = round(time.perf_counter() - start, 1)
        outputs = model.predict(test[0], batch_size=1000, verbose=0)
        embeddings[name] = np.asarray(outputs["embedding"])
        results[name] = measure(embeddings[name], outputs["cosines"], test[1])

    record = {
        "settings": dataclasses.asdict(settings),
        "data": {"name": data, "train": len(train[0]), "test": len(test[0])},
        "versions": {"keras_tcm": keras_tcm.__version__, "keras": keras.__version__},
        "backend": keras.backend.backend(),
        "training_seconds": seconds,
        "results": results,
    }
    write_text(out / "toy.json", json.dumps(record, indent=2) + "\n")
    save_figure(_draw(embeddings, test[1], results), out / "toy.png", dpi=200)
    return record


def load_data(data: str) -> tuple[str, Split, Split]:
    """Load the images of the toy; see `run_toy`.

    Returns:
        `"mnist"` or `"digits"`, and `(x_train, y_train), (x_test, y_test)`: uint8
        images of shape `(N, height, width, 1)` and int64 labels of shape `(N,)`.
    """
    if data != "digits":
        try:
            return "mnist", *_mnist()
        except ConnectionError as error:
            if data == "mnist":
                raise
            print(f"{error}\nUsing the digits of the package instead.", flush=True)
    return "digits", *_digits()


def _mnist() -> tuple[Split, Split]:
    try:
        with _socket_timeout(_TIMEOUT):
            train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras wraps what the network raises in an Exception.
        raise ConnectionError(
            f"MNIST is not on disk, and cannot be downloaded: {error}"
        ) from error
    first, second = ((x[..., None], y.astype(np.int64)) for x, y in (train, test))
    return first, second


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit the wait for a server: Keras downloads without a limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _digits() -> tuple[Split, Split]:
    images, labels = digits.load_all()
    rng = np.random.default_rng(_SPLIT_SEED)
    is_test = np.zeros(len(labels), bool)
    for label in range(NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        rng.shuffle(members)
        is_test[members[: round(len(members) / 3)]] = True
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def train_model(
    train: Split, loss: dict[str, Any], settings: ToySettings
) -> keras.Model:
    """Train a small network to two-dimensional embeddings.

    Losses come by the name of the output. Weights and batches depend on the seed alone.
    """
    images, labels = train
    keras.utils.set_random_seed(settings.seed)
    model = models.embedding_model(
        _backbone(images.shape[1:]), 2, num_classes=NUM_CLASSES
    )
    steps_per_epoch = -(-settings.steps // NUM_EPOCHS)
    schedule = cosine_schedule(
        settings.learning_rate, settings.warmup, NUM_EPOCHS * steps_per_epoch
    )
    model.compile(keras.optimizers.Adam(schedule), loss=loss)
    sampler = ClassBalancedSampler(
        images,
        labels,
        classes_per_batch=NUM_CLASSES,
        samples_per_class=settings.samples_per_class,
        steps_per_epoch=steps_per_epoch,
        seed=settings.seed,
        outputs=tuple(loss),
    )
    verbose = 1 if sys.stdout.isatty() else 2
    model.fit(sampler, epochs=NUM_EPOCHS, shuffle=False, verbose=verbose)
    return model


def _backbone(input_shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    # Without noise a class is a point in training and wide in the test.
    x = layers.GaussianNoise(0.1)(x)
    for _ in range(2):
        x = layers.Dense(256, activation="relu")(x)
        x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, x)


def measure(embeddings: np.ndarray, cosines: Any, labels: np.ndarray) -> dict[str, Any]:
    """Measure how well the classes separate, and how evenly they lie on the circle.

    Args:
        embeddings: Array `(n, 2)` of unit vectors.
        cosines: Cosines to the ten class directions, `(n, 10)`.
        labels: Labels 0 to 9, `(n,)`.
    """
    evaluation = evaluate_embeddings(embeddings, labels, recall_at=(1,), verbose=False)
    points = embeddings.astype(np.float64) @ [1, 1j]
    directions, spreads, arcs = [], [], []
    for label in range(NUM_CLASSES):
        members = points[labels == label]
        mean = members.mean()
        directions.append(np.angle(mean) % (2 * np.pi))
        # The circular standard deviation.
        spreads.append(np.sqrt(-2 * np.log(min(1, abs(mean)))))
        # The arc around the mean that holds 90% of the class.
        arcs.append(2 * np.quantile(abs(np.angle(members / mean)), 0.9))
    order = np.argsort(directions)
    gaps = np.empty(NUM_CLASSES)
    gaps[order] = np.diff(np.take(directions, [*order, order[0]])) % (2 * np.pi)

    def in_degrees(values: Any) -> list[float]:
        return np.degrees(values).round(3).tolist()

    return {
        "accuracy": float(np.mean(np.argmax(cosines, axis=1) == labels)),
        "recall_at_1": evaluation.recall[1],
        "opis": evaluation.opis,
        "epsilon_opis": evaluation.epsilon_opis,
        "direction_degrees": in_degrees(directions),
        "gap_degrees": in_degrees(gaps),
        "spread_degrees": in_degrees(spreads),
        "arc_degrees": in_degrees(arcs),
    }


def _draw(
    embeddings: dict[str, np.ndarray],
    labels: np.ndarray,
    results: dict[str, dict[str, Any]],
) -> Any:
    figure, axes = pyplot().subplots(
        1, len(embeddings), figsize=(6.3, 3.9), layout="constrained"
    )
    for ax, (name, points) in zip(axes, embeddings.items(), strict=True):
        plot_circle(points, labels, ax=ax)
        # Leaves the height that is not needed to the title.
        ax.set_anchor("S")
        result = results[name]
        gaps = result["gap_degrees"]
        ax.set_title(
            f"{name}\ngaps {min(gaps):.0f}° to {max(gaps):.0f}°\n"
            f"OPIS {result['opis']:.5f}, accuracy {result['accuracy']:.1%}"
        )
    return figure
