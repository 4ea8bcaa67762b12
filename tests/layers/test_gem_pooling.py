import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.layers import GeMPooling


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return np.maximum(rng.normal(size=(3, 5, 4, 6)), 0).astype("float32")


def generalised_mean(x, p, epsilon=1e-6):
    x = np.maximum(x.astype("float64"), epsilon)
    return np.mean(x**p, axis=(1, 2)) ** (1 / p)


def test_value_worked_by_hand():
    x = np.array([1.0, 2.0, 3.0, 4.0], "float32").reshape(1, 2, 2, 1)
    out = ops.convert_to_numpy(GeMPooling(p=3.0)(x))
    np.testing.assert_allclose(out, [[25 ** (1 / 3)]], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 3.0, 7.5])
def test_agrees_with_numpy(x, p):
    out = ops.convert_to_numpy(GeMPooling(p=p)(x))
    np.testing.assert_allclose(out, generalised_mean(x, p), rtol=1e-5)


def test_lies_between_mean_and_maximum(x):
    mean, gem, high = (
        ops.convert_to_numpy(GeMPooling(p=p)(x)) for p in (1.0, 3.0, 1e4)
    )
    assert np.all(mean <= gem + 1e-6)
    assert np.all(gem <= high + 1e-6)
    np.testing.assert_allclose(high, x.max(axis=(1, 2)), rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1e20])
def test_is_homogeneous_without_overflow(x, scale):
    layer = GeMPooling(p=20.0, epsilon=1e-20)
    expected = ops.convert_to_numpy(layer(x + 1)) * scale
    out = ops.convert_to_numpy(layer((x + 1) * np.float32(scale)))
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_all_zero_map_gives_epsilon():
    out = ops.convert_to_numpy(GeMPooling(epsilon=1e-3)(np.zeros((1, 2, 2, 3))))
    np.testing.assert_allclose(out, np.full((1, 3), 1e-3), rtol=1e-5)


def test_spatial_order_does_not_matter(x):
    layer = GeMPooling()
    out = ops.convert_to_numpy(layer(x))
    flipped = ops.convert_to_numpy(layer(x[:, ::-1].transpose(0, 2, 1, 3)))
    np.testing.assert_allclose(out, flipped, rtol=1e-6)


def test_channels_first(x):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        layer = GeMPooling()
    finally:
        keras.config.set_image_data_format(before)
    out = ops.convert_to_numpy(layer(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(out, generalised_mean(x, 3), rtol=1e-5)
    assert layer.compute_output_shape((None, 6, 5, 4)) == (None, 6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_in_and_out_does_not_overflow(x, policy):
    # 100 ** 3 is out of the range of float16.
    layer = GeMPooling(dtype=policy)
    out = layer(x * 100)
    half = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(out.dtype) == half
    out = ops.convert_to_numpy(ops.cast(out, "float32"))
    np.testing.assert_allclose(out, generalised_mean(x * 100, 3), rtol=2e-2)


def sgd_step(layer, x, target, learning_rate):
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mean_squared_error")
    model.fit(x, target, batch_size=len(x), verbose=0)
    return float(ops.convert_to_numpy(layer.exponent))


def test_gradient_of_the_exponent_by_finite_differences(x):
    target = np.zeros((3, 6), "float32")
    p = sgd_step(GeMPooling(), x, target, learning_rate=1.0)
    high, low = (np.mean(generalised_mean(x, 3 + h) ** 2) for h in (1e-4, -1e-4))
    np.testing.assert_allclose(3 - p, (high - low) / 2e-4, rtol=1e-3)


def test_trained_exponent_stays_at_least_one(x):
    target = np.zeros((3, 6), "float32")
    assert sgd_step(GeMPooling(p=1.5), x, target, learning_rate=1e3) == 1.0


def test_fixed_exponent(x):
    layer = GeMPooling(trainable_p=False)
    layer(x)
    assert layer.trainable_variables == []


def test_config_survives_json():
    layer = GeMPooling(p=2.0, trainable_p=False, epsilon=1e-4, name="pool")
    config = json.loads(json.dumps(layer.get_config()))
    assert GeMPooling.from_config(config).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("argument", "value"),
    [("p", 0.5), ("p", float("nan")), ("p", float("inf")), ("epsilon", 0.0)],
)
def test_wrong_arguments(argument, value):
    with pytest.raises(
        ValueError, match=rf"`{argument}` must be .* Received: {argument}"
    ):
        GeMPooling(**{argument: value})


def test_input_must_be_a_feature_map():
    with pytest.raises(ValueError, match="four axes"):
        GeMPooling()(np.ones((2, 7, 5)))
