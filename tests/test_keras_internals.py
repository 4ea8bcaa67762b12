"""What the package takes from Keras beyond its public API still does what it should."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_tcm import _keras_internals

X = np.zeros((8, 2), "float32")
Y = np.zeros(8, "float32")


class Epochs(keras.metrics.Metric):
    """Counts batches, of which each epoch here has one, and is never reset."""

    def __init__(self):
        super().__init__(name="epochs")
        self.shown = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.shown.assign(self.shown + 1.0)

    def reset_state(self):
        pass

    def result(self):
        return self.shown + 0.0


def model_with(metric):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[metric])
    return model


@pytest.mark.parametrize(("direction", "epochs"), [("up", 5), ("down", 2)])
def test_direction(direction, epochs):
    metric = Epochs()
    _keras_internals.set_direction(metric, direction)
    stopping = keras.callbacks.EarlyStopping("epochs", patience=1)
    history = model_with(metric).fit(X, Y, epochs=5, callbacks=[stopping], verbose=0)
    assert len(history.history["epochs"]) == epochs


def test_backend_of_started_keras():
    assert _keras_internals.backend_of_started_keras() == keras.backend.backend()
    program = (
        "import sys, types; package = types.ModuleType('keras_tcm');"
        f"package.__path__ = {list(sys.modules['keras_tcm'].__path__)!r};"
        "sys.modules['keras_tcm'] = package;"
        "from keras_tcm import _keras_internals as internals;"
        "assert 'keras' not in sys.modules;"
        "assert internals.backend_of_started_keras() is None"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_random_state():
    layer = keras.layers.GaussianNoise(1.0, seed=0)
    layer(X)
    (state,) = (v for v in layer.variables if v not in layer.weights)

    def noise(seed):
        value = _keras_internals.random_state(np.random.default_rng(seed))
        assert value.shape == tuple(state.shape)
        with keras.StatelessScope([(state, value)]):
            return keras.ops.convert_to_numpy(layer(X, training=True))

    np.testing.assert_array_equal(noise(0), noise(0))
    assert (noise(0) != noise(1)).all()


def test_who_trains_on_all_ranks():
    """Keras 3.15 and before do not; the tests of several processes show it too."""
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    is_done = _keras_internals.trains_on_all_ranks(model_with(Epochs()))
    assert is_done == (version >= (3, 16))


def test_changed_results_of_metrics():
    model = model_with(Epochs())
    assert not _keras_internals.has_changed_metrics_results(model)

    def change(keras_results):
        return {name: value + 100.0 for name, value in keras_results().items()}

    _keras_internals.change_metrics_results(model, change)
    assert _keras_internals.has_changed_metrics_results(model)
    history = model.fit(X, Y, epochs=1, verbose=0).history
    assert history["epochs"] == [101.0]
    assert model.evaluate(X, Y, verbose=0, return_dict=True)["epochs"] == 102.0


def test_origin_of():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    layer = keras.layers.Add()
    for order in (inputs, inputs[::-1]):
        found, called_on = _keras_internals.origin_of(layer(order))
        assert found is layer
        assert [x is y for x, y in zip(called_on, order, strict=True)] == [True, True]
