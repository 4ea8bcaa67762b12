"""Batches of image files in order, for `predict`."""

import io

import keras
import numpy as np
import pytest
from PIL import Image
from sampler_helpers import PROCESSES, THREADS, fork_is_fine

from keras_tcm import evaluate_embeddings
from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.data import ClassBalancedSampler, ImageBatches

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (8, HEIGHT, WIDTH, 3), "uint8")


@pytest.fixture
def paths(tmp_path, images):
    """Of eight files, without loss, in an order that is not that of their names."""
    paths = [tmp_path / f"{number}.png" for number in (3, 1, 4, 7, 5, 9, 2, 6)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("kind", ["paths", "strings", "array"])
def test_batches_are_the_images_in_order(paths, images, kind):
    x = paths if kind == "paths" else [str(path) for path in paths]
    x = np.array(x) if kind == "array" else x
    batches = ImageBatches(x, (HEIGHT, WIDTH), batch_size=3)

    assert [len(batch) for batch in batches] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(list(batches)), images)
    assert batches[2].dtype == np.float32


def test_images_of_one_colour_are_resized(tmp_path):
    Image.new("RGB", (30, 20), (10, 20, 30)).save(tmp_path / "a.png")
    (batch,) = ImageBatches([tmp_path / "a.png"], [4, 6])
    np.testing.assert_array_equal(batch, np.full((1, 4, 6, 3), (10, 20, 30)))


@pytest.mark.parametrize(
    ("count", "batch_size", "batches"),
    [(1, 32, 1), (32, 32, 1), (33, 32, 2), (8, 1, 8)],
)
def test_length(count, batch_size, batches):
    assert len(ImageBatches(["a.png"] * count, (2, 2), batch_size)) == batches


@fork_is_fine
@pytest.mark.parametrize(
    "workers", [{}, THREADS, PROCESSES], ids=["none", "threads", "processes"]
)
def test_predict_keeps_the_order(paths, images, workers):
    model = keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), keras.layers.Flatten()])
    batches = ImageBatches(paths, (HEIGHT, WIDTH), batch_size=3, **workers)
    embeddings = model.predict(batches, verbose=0)
    np.testing.assert_array_equal(embeddings, images.reshape(8, -1))


def test_evaluation_at_the_end_of_an_epoch(paths, images):
    labels = np.arange(8) // 4
    model = keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), keras.layers.Flatten()])
    batches = ImageBatches(paths, (HEIGHT, WIDTH), batch_size=3)
    callback = RetrievalEvaluation(batches, labels, far_range=(0.1, 0.5))
    callback.set_model(model)
    logs = {}
    callback.on_epoch_end(0, logs)

    expected = evaluate_embeddings(
        images.reshape(8, -1), labels, far_range=(0.1, 0.5), verbose=False
    )
    np.testing.assert_allclose(logs["val_opis"], expected.opis, rtol=1e-6)
    np.testing.assert_allclose(logs["val_map_at_r"], expected.map_at_r, rtol=1e-6)


# An image that has the right size already is decoded by another function.
@pytest.mark.parametrize("image_size", [(60, 80), (4, 4)])
def test_a_photograph_cut_short_is_named(tmp_path, image_size):
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), "uint8")
    Image.fromarray(noise).save(content, "JPEG")
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for path in paths:
        path.write_bytes(content.getvalue())
    paths[2].write_bytes(content.getvalue()[: len(content.getvalue()) // 2])

    batches = ImageBatches(paths, image_size, batch_size=2)
    assert batches[0].shape == (2, *image_size, 3)
    with pytest.raises(ValueError, match=r"`x` must hold .*Received: .*2\.jpg"):
        batches[1]
    sampler = ClassBalancedSampler(paths, [0, 0, 1, 1], 2, 2, image_size=image_size)
    with pytest.raises(ValueError, match=r"`x` must hold .*Received: .*2\.jpg"):
        sampler[0]


@pytest.mark.parametrize(
    "x",
    ["a.png", [], [["a.png"]], [1, 2], np.zeros((2, 4, 4, 3)), ["a.png", None]],
    ids=["one path", "none", "nested", "numbers", "images", "mixed"],
)
def test_x_must_be_paths(x):
    with pytest.raises(
        ValueError, match=r"`x` must be a list of paths .*Received: x of"
    ):
        ImageBatches(x, (2, 2))


@pytest.mark.parametrize(
    "image_size", [None, 4, (4,), (4, 4, 3), (0, 4), (4.0, 4), "ab"]
)
def test_image_size_must_be_two_sizes(image_size):
    with pytest.raises(ValueError, match=r"`image_size` must be .*image_size="):
        ImageBatches(["a.png"], image_size)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
        ImageBatches(["a.png"], (2, 2), batch_size=0)


@pytest.mark.parametrize("index", [-1, 2])
def test_there_are_no_other_batches(index):
    with pytest.raises(
        IndexError, match=rf"`index` must be in \[0, 2\).*index={index}"
    ):
        ImageBatches(["a.png"] * 3, (2, 2), batch_size=2)[index]
