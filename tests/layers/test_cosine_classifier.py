import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.layers import CosineClassifier


def expected_cosines(x, kernel):
    x, kernel = np.asarray(x, "float64"), np.asarray(kernel, "float64")
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    return x @ kernel / lengths


def built(num_classes, dim, **kwargs):
    layer = CosineClassifier(num_classes, **kwargs)
    layer.build((None, dim))
    return layer


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 16)).astype("float32")


def test_value_worked_by_hand():
    layer = built(2, 2)
    layer.kernel.assign([[2.0, -5.0], [0.0, -5.0]])
    out = ops.convert_to_numpy(layer(np.array([[3.0, 4.0]], "float32")))
    np.testing.assert_allclose(out, [[0.6, -7 / (5 * np.sqrt(2))]], rtol=1e-6)


def test_agrees_with_numpy(x):
    layer = CosineClassifier(5)
    out = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.kernel)
    assert kernel.shape == (16, 5)
    np.testing.assert_allclose(out, expected_cosines(x, kernel), atol=1e-6)


def test_lengths_play_no_part(x):
    layer = CosineClassifier(5)
    before = ops.convert_to_numpy(layer(x))
    layer.kernel.assign(layer.kernel * np.array([1e-9, 0.5, 1, 7, 1e9], "float32"))
    after = ops.convert_to_numpy(layer(x * 1e6))
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("by", ["argument", "global policy"])
def test_float32_cosines_under_mixed_precision(x, policy, by):
    before = keras.config.dtype_policy()
    try:
        if by == "argument":
            layer = CosineClassifier(5, dtype=policy)
        else:
            keras.config.set_dtype_policy(policy)
            layer = CosineClassifier(5)
        out = layer(x)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    expected = expected_cosines(x, ops.convert_to_numpy(layer.kernel))
    # Rounding the operands to half precision would leave errors from 1e-4 up.
    np.testing.assert_allclose(ops.convert_to_numpy(out), expected, atol=1e-6)


def kernel_and_input_gradients(x):
    """One SGD step shows the gradients on every backend."""
    layer = CosineClassifier(3, kernel_initializer="ones")
    first = keras.layers.Dense(4, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((4,)), first, layer])
    model.compile(keras.optimizers.SGD(1.0), loss="mean_squared_error")
    model.fit(x, np.ones((len(x), 3), "float32"), batch_size=len(x), verbose=0)
    return [ops.convert_to_numpy(v) for v in (first.kernel, layer.kernel)]


def test_zero_vector_has_cosine_zero_and_no_gradient():
    x = np.zeros((2, 4), "float32")
    assert not ops.convert_to_numpy(CosineClassifier(3)(x)).any()
    dense_kernel, kernel = kernel_and_input_gradients(x)
    np.testing.assert_array_equal(dense_kernel, np.eye(4))
    np.testing.assert_array_equal(kernel, np.ones((4, 3)))


def test_gradient_is_orthogonal_to_the_directions():
    # Cosines do not change along a direction's own length.
    _, kernel = kernel_and_input_gradients(np.diag([1.0, 2.0, 3.0, 4.0]))
    step = kernel - 1
    np.testing.assert_allclose(step.sum(axis=0), 0, atol=1e-6)


def test_output_shape():
    layer = CosineClassifier(10)
    assert layer.compute_output_shape((None, 7, 64)) == (None, 7, 10)
    out = layer(keras.Input((64,), dtype="float16"))
    assert out.shape == (None, 10)
    assert out.dtype == "float32"


def test_config_survives_json():
    layer = CosineClassifier(
        np.int64(4), kernel_initializer=keras.initializers.HeNormal(seed=3), name="c"
    )
    config = json.loads(json.dumps(layer.get_config()))
    again = CosineClassifier.from_config(config)
    assert again.get_config() == layer.get_config()
    assert isinstance(again.kernel_initializer, keras.initializers.HeNormal)


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, "3", None])
def test_wrong_num_classes(num_classes):
    message = r"`num_classes` must be .* Received: num_classes="
    with pytest.raises((TypeError, ValueError), match=message):
        CosineClassifier(num_classes)


def test_input_without_a_size():
    with pytest.raises(ValueError, match="fixed last axis"):
        CosineClassifier(3).build((None, None))
