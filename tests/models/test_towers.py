"""The towers of a model, each by itself."""

import keras
import numpy as np
import pytest

from keras_tcm.layers import StackTowers
from keras_tcm.models import CrossBatchMemory, towers

RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(4, 8)).astype("float32")
IMAGE = RNG.normal(size=(4, 6)).astype("float32")
SIZE = RNG.normal(size=(4, 6)).astype("float32")


def two_towers():
    """The second one has two inputs; the first one is a model of its own."""
    text, image, size = keras.Input((8,)), keras.Input((6,)), keras.Input((6,))
    text_tower = keras.Sequential([keras.layers.Dense(5)])
    both = keras.layers.Add()([image, size])
    outputs = StackTowers()([text_tower(text), keras.layers.Dense(5)(both)])
    return keras.Model([text, image, size], outputs)


@pytest.mark.parametrize("has_memory", [False, True])
def test_share_the_weights(has_memory):
    model = two_towers()
    trainer = CrossBatchMemory(model, 8) if has_memory else model
    text_tower, image_tower = towers(trainer)
    for scale in 1.0, 2.0:
        model.set_weights([scale * w for w in model.get_weights()])
        expected = model.predict([TEXT, IMAGE, SIZE], verbose=0)
        np.testing.assert_allclose(
            text_tower.predict(TEXT, verbose=0), expected[:, 0], rtol=1e-5
        )
        np.testing.assert_allclose(
            image_tower.predict([IMAGE, SIZE], verbose=0), expected[:, 1], rtol=1e-5
        )


def test_one_network_for_both():
    inputs = [keras.Input((6,)), keras.Input((6,))]
    network = keras.Sequential([keras.layers.Dense(5)])
    model = keras.Model(inputs, StackTowers()([network(each) for each in inputs]))
    queries, gallery = towers(model)
    np.testing.assert_allclose(
        queries.predict(IMAGE, verbose=0), gallery.predict(IMAGE, verbose=0)
    )


def test_a_layer_that_two_models_share():
    stack = StackTowers()
    pairs = []
    for _ in range(2):
        inputs = [keras.Input((6,)), keras.Input((6,))]
        outputs = [keras.layers.Dense(5)(each) for each in inputs]
        pairs.append(keras.Model(inputs, stack(outputs)))
    for model in pairs:
        expected = model.predict([IMAGE, SIZE], verbose=0)
        queries, gallery = towers(model)
        for tower, x, place in ((queries, IMAGE, 0), (gallery, SIZE, 1)):
            found = tower.predict(x, verbose=0)
            np.testing.assert_allclose(found, expected[:, place], rtol=1e-5)


def test_other_models():
    one = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    with pytest.raises(ValueError, match="must end with a"):
        towers(one)

    class Custom(keras.Model):
        def call(self, inputs):
            return inputs

    for other in Custom(), "model":
        with pytest.raises(TypeError, match="functional Keras model"):
            towers(other)
