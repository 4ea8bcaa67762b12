"""Images that the workers read from files."""

import os

import keras
import numpy as np
import pytest
from sampler_helpers import (
    PROCESSES,
    THREADS,
    epoch_of,
    fork_is_fine,
    through_keras,
)

from keras_tcm.data import ClassBalancedSampler


@pytest.mark.parametrize("kind", [str, "path", np.array])
def test_images_are_read_from_paths(tmp_path, kind):
    paths = []
    for value in range(6):
        path = tmp_path / f"{value}.png"
        image = np.full((5, 7, 3), 40 * value, "uint8")
        keras.utils.save_img(path, image, scale=False)
        paths.append(path)
    if kind is str:
        paths = [str(path) for path in paths]
    elif kind is np.array:
        paths = np.array([str(path) for path in paths])
    labels = np.array([0, 0, 1, 1, 2, 2])
    sampler = ClassBalancedSampler(paths, labels, 2, 2, image_size=(4, 6), seed=0)
    x, y = sampler[0]
    assert x.shape == (4, 4, 6, 3)
    assert x.dtype == np.float32
    values = x[:, 0, 0, 0] / 40
    np.testing.assert_array_equal(x, np.broadcast_to(x[:, :1, :1, :1], x.shape))
    np.testing.assert_array_equal(values // 2, y)
    assert len(set(values)) == 4


class Entry(os.PathLike):
    """A path that is neither `str` nor `Path`, such as `os.DirEntry`."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.fixture
def folder(tmp_path):
    """Twelve noisy images, 5 high and 7 wide."""
    rng = np.random.default_rng(0)
    for number in range(12):
        image = rng.integers(0, 256, (5, 7, 3)).astype("uint8")
        keras.utils.save_img(tmp_path / f"{number:02}.png", image, scale=False)
    return tmp_path


def sampler_of(folder, image_size=(5, 7), **options):
    paths = [Entry(folder / f"{number:02}.png") for number in range(12)]
    labels = np.arange(12) // 3
    return ClassBalancedSampler(
        paths, labels, 2, 3, seed=0, image_size=image_size, **options
    )


@fork_is_fine
@pytest.mark.parametrize("workers", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_workers_read_the_same_images(folder, workers):
    expected = np.concatenate([x for x, _ in epoch_of(sampler_of(folder))])
    assert expected.shape == (12, 5, 7, 3)
    assert expected.std() > 50
    images = through_keras(sampler_of(folder, **workers))
    np.testing.assert_array_equal(images, expected)


def spoil(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no image":
        path.write_text("This is text.")
    elif how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "garbled":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(20) + content[middle + 20 :])


# An image that has the right size already is decoded by another function.
@pytest.mark.parametrize("image_size", [(5, 7), (4, 4)])
@pytest.mark.parametrize(
    "how", ["missing", "empty", "no image", "cut short", "garbled"]
)
def test_the_file_that_cannot_be_read_is_named(folder, how, image_size):
    spoil(folder / "04.png", how)
    sampler = sampler_of(folder, image_size)
    with pytest.raises(ValueError, match=r"`x` must hold .*Received: .*04\.png"):
        epoch_of(sampler)


@fork_is_fine
@pytest.mark.parametrize(
    "workers", [{}, THREADS, PROCESSES], ids=["none", "threads", "processes"]
)
def test_workers_hand_on_the_name_of_the_file(folder, workers):
    (folder / "04.png").write_text("This is text.")
    sampler = sampler_of(folder, **workers)
    identity = keras.Sequential(
        [keras.Input((5, 7, 3)), keras.layers.Activation("linear")]
    )
    # TensorFlow wraps what a generator raises in an error of its own.
    with pytest.raises(Exception, match=r"04\.png"):
        identity.predict(sampler, verbose=0)
