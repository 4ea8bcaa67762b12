import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.layers import PositionEmbedding


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


def test_value_worked_by_hand():
    layer = PositionEmbedding()
    layer.build((None, 2, 1))
    layer.embedding.assign([[10.0], [20.0]])
    out = ops.convert_to_numpy(layer(np.array([[[1.0], [2.0]], [[3.0], [4.0]]])))
    assert out[..., 0].tolist() == [[11, 22], [13, 24]]


def test_positions_differ_and_samples_do_not(x):
    layer = PositionEmbedding()
    added = ops.convert_to_numpy(layer(x)) - x
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    assert len({tuple(row) for row in added[0].round(4)}) == 3


def test_positions_are_trained(x):
    layer = PositionEmbedding()
    model = keras.Sequential([keras.Input((3, 4)), layer])
    before = ops.convert_to_numpy(layer.embedding)
    model.compile(keras.optimizers.SGD(1.0), loss="mean_squared_error")
    model.fit(x, x, batch_size=2, verbose=0)
    # The loss is the mean of the 12 squares of the embedding itself.
    after = ops.convert_to_numpy(layer.embedding)
    np.testing.assert_allclose(after, before * (1 - 2 / 12), atol=1e-6)


def test_mask_passes_through():
    x = keras.layers.Embedding(3, 4, mask_zero=True)(np.array([[1, 2, 0]]))
    layer = PositionEmbedding()
    layer.build((None, 3, 4))
    # Would show in the average if the last step, which is filling, were in it.
    layer.embedding.assign(np.repeat([[0.0], [0.0], [9.0]], 4, axis=1))
    pooled = keras.layers.GlobalAveragePooling1D()(layer(x))
    expected = ops.convert_to_numpy(x)[:, :2].mean(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled), expected, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy, x):
    layer = PositionEmbedding(dtype=policy)
    out = layer(x)
    half = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(out.dtype) == half
    expected = x + ops.convert_to_numpy(layer.embedding)
    out = ops.convert_to_numpy(ops.cast(out, "float32"))
    np.testing.assert_allclose(out, expected, atol=3e-2)


def test_save_and_load(x, tmp_path):
    model = keras.Sequential([keras.Input((3, 4)), PositionEmbedding(name="where")])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("where").get_config() == (
        model.get_layer("where").get_config()
    )
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.parametrize("shape", [(2, 3), (2, None, 3), (2, 3, None), (2, 3, 4, 5)])
def test_input_must_be_a_sequence_of_known_length(shape):
    message = r"`PositionEmbedding` needs .* Received: input_shape="
    with pytest.raises(ValueError, match=message):
        PositionEmbedding().build(shape)
