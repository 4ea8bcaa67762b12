"""The monitor logs the means of what the loss sets itself to."""

import keras
import numpy as np
import pytest

from keras_tcm import AutoTCM, losses
from keras_tcm.metrics import AutoTCMMonitor
from keras_tcm.metrics.auto_tcm_monitor import NAMES

Y = np.repeat(np.arange(6), 4)
X = (
    np.random.default_rng(0).normal(size=(6, 5))[Y]
    + np.random.default_rng(1).normal(size=(24, 5))
).astype("float32")
BATCHES = [slice(0, 12), slice(12, 24)]


def loss(**options):
    return AutoTCM(losses.MultiSimilarity(), **options)


def means(x, **options):
    found = [loss(**options).settings(Y[batch], x[batch]) for batch in BATCHES]
    return {name: np.mean([float(each[name]) for each in found]) for name in NAMES}


@pytest.mark.parametrize("options", [{}, {"negative_weight": 0.5}], ids=["", "fixed"])
def test_means_over_batches(options):
    monitor = AutoTCMMonitor(loss(**options))
    for batch in BATCHES:
        monitor.update_state(Y[batch], X[batch])
    result = {name: float(value) for name, value in monitor.result().items()}
    assert result == pytest.approx(means(X, **options), rel=1e-5)
    assert not options or result["negative_weight"] == 0.5
    monitor.reset_state()
    assert {float(value) for value in monitor.result().values()} == {0.0}


@pytest.mark.filterwarnings("ignore:The loss")
def test_batches_without_margins_are_left_out():
    monitor = AutoTCMMonitor(loss())
    monitor.update_state(np.zeros(12, int), X[:12])
    for batch in BATCHES:
        monitor.update_state(Y[batch], X[batch])
    result = {name: float(value) for name, value in monitor.result().items()}
    assert result == pytest.approx(means(X), rel=1e-5)


def test_logs_of_fit_and_saving(tmp_path):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    rule = loss()
    model.compile(keras.optimizers.SGD(0.0), loss=rule, metrics=[AutoTCMMonitor(rule)])
    # The last batch is smaller.
    history = model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    x = keras.ops.convert_to_numpy(model(X))
    found = [loss().settings(Y[a:b], x[a:b]) for a, b in ((0, 16), (16, 24))]
    for name in NAMES:
        expected = np.mean([float(each[name]) for each in found])
        assert history[name] == pytest.approx([expected] * 2, rel=1e-4)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    options = {"batch_size": 24, "verbose": 0, "return_dict": True}
    assert restored.evaluate(X, Y, **options) == (
        pytest.approx(model.evaluate(X, Y, **options))
    )


def test_wrong_loss():
    with pytest.raises(TypeError, match="`loss` must be a"):
        AutoTCMMonitor(losses.TCM())
