"""The toy: its data, its measures, and that a seed makes it reproducible."""

import json
import pathlib
import socket
import sys

import keras
import matplotlib
import numpy as np
import pytest
from PIL import Image

import keras_tcm
from keras_tcm import evaluate_embeddings
from keras_tcm.datasets.digits import load_all
from keras_tcm.study import toy

matplotlib.use("Agg")

MODELS = ["ArcFace", "ArcFace + TCM"]
STEPS = 80


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps: its folder and its record."""
    out = tmp_path_factory.mktemp("toy") / "new" / "folder"
    return out, toy.run_toy(out, data="digits", seed=3, steps=STEPS)


def test_files(run):
    out, record = run
    assert sorted(path.name for path in out.iterdir()) == ["toy.json", "toy.png"]
    assert json.loads((out / "toy.json").read_text()) == record
    with Image.open(out / "toy.png") as image:
        assert image.format == "PNG"
        # Legible in print: 300 dots per inch and more at a width of 8 cm.
        assert image.width >= 945
        counts = np.array([n for n, _ in image.convert("RGB").getcolors(2**24)])
    assert len(counts) > 100


def test_record(run):
    _, record = run
    assert record["settings"]["seed"] == 3
    assert record["settings"]["steps"] == STEPS
    assert record["data"] == {"name": "digits", "train": 1198, "test": 599}
    assert record["versions"]["keras"] == keras.__version__
    assert record["backend"] == keras.backend.backend()
    assert list(record["training_seconds"]) == list(record["results"]) == MODELS
    for result in record["results"].values():
        assert 0 <= result["accuracy"] <= 1
        assert 0 <= result["recall_at_1"] <= 1
        assert result["opis"] > 0
        assert sum(result["gap_degrees"]) == pytest.approx(360, abs=0.01)
        for name in "direction", "spread", "arc":
            assert len(result[f"{name}_degrees"]) == 10


def test_a_seed_gives_the_same_numbers(run):
    """The second model once more, on its own."""
    settings = toy.ToySettings(toy.LEARNING_RATES["digits"], seed=3, steps=STEPS)
    _, train, (x_test, y_test) = toy.load_data("digits")
    tcm = keras_tcm.TCM(settings.positive_margin, settings.negative_margin)
    arc_face = keras_tcm.losses.ArcFace(
        settings.arc_face_margin, settings.arc_face_scale
    )
    loss = {"cosines": arc_face, "embedding": settings.tcm_weight * tcm}
    model = toy.train_model(train, loss, settings)
    outputs = model.predict(x_test, batch_size=1000, verbose=0)
    again = toy.measure(np.asarray(outputs["embedding"]), outputs["cosines"], y_test)
    assert again == run[1]["results"]["ArcFace + TCM"]


def test_both_models_learn_and_differ(run):
    without, with_tcm = run[1]["results"].values()
    # Chance is 0.1.
    assert min(without["accuracy"], with_tcm["accuracy"]) > 0.3
    assert without["opis"] != with_tcm["opis"]


# -------------------------------------------------------------------------- measures


def circle(degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def test_measures_by_hand():
    """Class k at 37 k degrees but the last at 320, images 3 degrees to either side."""
    centers = np.array([*(37.0 * np.arange(9)), 320.0])
    labels = np.repeat(np.arange(10), 4)
    # In half of the classes all images are in the middle.
    offsets = np.tile([3.0, 3.0, -3.0, -3.0], 10) * (labels % 2)
    embeddings = circle(centers[labels] + offsets).astype("float32")
    cosines = embeddings @ circle(centers).T
    measures = toy.measure(embeddings, cosines, labels)
    assert measures["accuracy"] == 1
    assert measures["recall_at_1"] == 1
    assert measures["direction_degrees"] == pytest.approx(centers, abs=0.01)
    # 296 to 320, and on to 360.
    gaps = [37.0] * 8 + [24.0, 40.0]
    assert measures["gap_degrees"] == pytest.approx(gaps, abs=0.01)
    spread = np.degrees(np.sqrt(-2 * np.log(np.cos(np.radians(3)))))
    # Where all are in the middle, float32 leaves a little.
    assert measures["spread_degrees"] == pytest.approx([0, spread] * 5, abs=0.05)
    assert measures["arc_degrees"] == pytest.approx([0, 6] * 5, abs=0.01)
    expected = evaluate_embeddings(embeddings, labels, verbose=False)
    assert measures["opis"] == pytest.approx(expected.opis)
    assert measures["epsilon_opis"] == pytest.approx(expected.epsilon_opis)


def test_accuracy_counts_the_nearest_class_direction():
    labels = np.repeat(np.arange(10), 2)
    embeddings = circle(36.0 * labels + [0, 1] * 10)
    cosines = np.eye(10)[labels]
    cosines[:5] = np.roll(cosines[:5], 1, axis=1)
    assert toy.measure(embeddings, cosines, labels)["accuracy"] == 0.75


def test_directions_turn_with_the_embeddings_and_the_rest_does_not():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 20)
    degrees = 36.0 * labels + rng.normal(0, 8, 200)
    cosines = np.eye(10)[labels]
    first = toy.measure(circle(degrees), cosines, labels)
    turned = toy.measure(circle(degrees + 100), cosines, labels)
    moved = np.array(turned.pop("direction_degrees")) - first.pop("direction_degrees")
    np.testing.assert_allclose(moved % 360, 100, atol=0.01)
    for name, value in first.items():
        assert turned[name] == pytest.approx(value, abs=0.01)


# ------------------------------------------------------------------------------ data


def test_digits_are_split_by_images_not_by_classes():
    name, (x_train, y_train), (x_test, y_test) = toy.load_data("digits")
    assert name == "digits"
    images, labels = load_all()
    together = np.concatenate([x_train, x_test]).reshape(len(labels), -1)
    order, expected = np.lexsort(together.T), np.lexsort(images.reshape(1797, -1).T)
    np.testing.assert_array_equal(together[order], images.reshape(1797, -1)[expected])
    counts = np.bincount(labels)
    np.testing.assert_allclose(np.bincount(y_test), counts / 3, atol=0.5)
    np.testing.assert_array_equal(np.bincount(y_train) + np.bincount(y_test), counts)


def test_the_test_images_are_always_the_same():
    first, second = toy.load_data("digits")[2], toy.load_data("digits")[2]
    for array, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_mnist_where_it_can_be_had(monkeypatch, capsys, data):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (6, 28, 28), "uint8"), np.arange(6, dtype="uint8")
    test = rng.integers(0, 256, (4, 28, 28), "uint8"), np.arange(4, dtype="uint8")
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: (train, test))
    name, *splits = toy.load_data(data)
    assert name == "mnist"
    for (images, labels), (x, y) in zip((train, test), splits, strict=True):
        np.testing.assert_array_equal(x[..., 0], images)
        assert x.shape[1:] == (28, 28, 1)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, labels)
    assert capsys.readouterr().out == ""


@pytest.fixture(params=["silent server", "no server"])
def out_of_reach(request, monkeypatch, tmp_path):
    """Keras's download from a server that never answers, or that is not there."""
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}/mnist.npz"
    if request.param == "no server":
        listener.close()

    def load_data():
        keras.utils.get_file("mnist.npz", origin=origin, cache_dir=str(tmp_path))

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    monkeypatch.setattr(toy, "_TIMEOUT", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with listener:
        yield


def test_without_a_network_auto_takes_the_digits(out_of_reach, capsys):
    before = socket.getdefaulttimeout()
    name, (x_train, _), _ = toy.load_data("auto")
    assert name == "digits"
    assert x_train.shape == (1198, 8, 8, 1)
    printed = capsys.readouterr().out
    assert "MNIST is not on disk" in printed
    assert "digits of the package" in printed
    assert socket.getdefaulttimeout() == before


def test_without_a_network_mnist_is_an_error(out_of_reach, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConnectionError, match="MNIST is not on disk"):
        toy.run_toy(out, data="mnist")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": "fashion"}, ValueError, r"`data` must be one of 'auto', 'mnist'"),
        ({"seed": -1}, ValueError, r"`seed`.*Received: seed=-1"),
        ({"seed": 0.5}, TypeError, r"`seed`.*Received: seed=0.5"),
        ({"steps": 0}, ValueError, r"`steps`.*Received: steps=0"),
        ({"steps": True}, TypeError, r"`steps`.*Received: steps=True"),
    ],
    ids=["data", "negative seed", "seed", "no steps", "steps"],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        toy.run_toy(pathlib.Path("unused"), **{"data": "digits", **arguments})
    assert not pathlib.Path("unused").exists()


def test_a_missing_matplotlib_or_folder_is_told_before_the_training(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(toy, "train_model", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        toy.run_toy(tmp_path / "file" / "out", data="digits")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        toy.run_toy(tmp_path / "out", data="digits")
