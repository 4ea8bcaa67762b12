"""Shared by the tests of the adapters."""

import sys
import warnings

import keras
import numpy as np
import pytest

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])


@pytest.fixture
def tfsim():
    """tensorflow-similarity, where it runs."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tensorflow-similarity runs on TensorFlow only")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow_similarity")


@pytest.fixture
def peers(pml):
    """The losses of pytorch-metric-learning, where they run."""
    if keras.backend.backend() != "torch":
        pytest.skip("pytorch-metric-learning runs on PyTorch only")
    from pytorch_metric_learning import losses

    return losses


@pytest.fixture
def labels():
    return LABELS.copy()


@pytest.fixture
def unit_vectors():
    x = np.random.default_rng(0).normal(size=(12, 5))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


@pytest.fixture
def features():
    """Noisy classes, for a model to tell apart."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 6))
    return (centres[LABELS] + rng.normal(size=(12, 6))).astype("float32")


@pytest.fixture
def small_model():
    """Makes a model of 6 features with unit-norm outputs of the names given."""

    def make(*outputs):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        x = keras.layers.Dense(4)(inputs)
        x = keras.layers.UnitNormalization()(x)
        if not outputs:
            return keras.Model(inputs, x)
        return keras.Model(
            inputs, {name: keras.layers.Identity(name=name)(x) for name in outputs}
        )

    return make


@pytest.fixture
def hide_package(monkeypatch):
    """Makes a package, and what is loaded of it, impossible to import."""

    def hide(package):
        for name in [package, *sys.modules]:
            if name.partition(".")[0] == package:
                monkeypatch.setitem(sys.modules, name, None)

    return hide
