"""The callback warns of margins that are far from where the model decides."""

import warnings

import keras
import numpy as np
import pytest

from keras_tcm import TCM, AutoTCM
from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.losses import MultiSimilarity

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(10), 6)
X = (RNG.normal(size=(10, 8))[Y] + RNG.normal(size=(60, 8))).astype("float32")


def told(loss, epochs=2, **options):
    """What is said during a training that changes nothing."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Identity()])
    model.compile(keras.optimizers.SGD(0.0), loss=loss)
    callback = RetrievalEvaluation(X, Y, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(epochs):
            callback.set_model(model)
            callback.on_epoch_end(0, {})
    return [str(each.message) for each in caught if "are hard" in str(each.message)]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearly_all_positive_pairs_hard(distance):
    (message,) = told(MultiSimilarity() + 0.1 * TCM(0.95, 0.5), distance=distance)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    s = (unit @ unit.T)[Y[:, None] == Y]
    share = np.mean(s[s < 1 - 1e-6] <= 0.95)
    assert message.startswith(f"{share:.1%} of the positive pairs are hard")
    assert "positive margin of 0.95" in message
    assert "AutoTCM" in message


@pytest.mark.parametrize(
    "loss",
    [
        TCM(0.5, 0.2),
        MultiSimilarity() + 0 * TCM(0.95, 0.5),
        AutoTCM(MultiSimilarity()),
        MultiSimilarity(),
        "mse",
    ],
    ids=["near", "of no weight", "by itself", "none", "of Keras"],
)
def test_says_nothing(loss):
    assert told(loss) == []


def test_every_loss_of_several_outputs_is_looked_at():
    inputs = keras.Input((8,))
    outputs = {"embedding": inputs, "other": keras.layers.Dense(2)(inputs)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss={"other": "mse", "embedding": TCM(0.95)})
    callback = RetrievalEvaluation(X, Y, at_thresholds=(0.25,))
    callback.set_model(model)
    with pytest.warns(UserWarning, match="are hard for a TCM"):
        callback.on_epoch_end(0, {})
    assert callback.evaluation.rates_at(0.25).far >= 0
