import keras
import numpy as np
import pytest

from keras_tcm.layers import UnitNorm


def test_vectors_are_scaled_to_unit_length():
    out = UnitNorm()(np.array([[3.0, 4.0], [0.0, -2.0]], "float32"))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(out), [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6
    )


def test_zero_vector_stays_zero():
    out = keras.ops.convert_to_numpy(UnitNorm()(np.zeros((2, 5), "float32")))
    np.testing.assert_array_equal(out, np.zeros((2, 5)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_norm_is_one_in_float32_under_half_precision(policy):
    x = np.random.default_rng(0).normal(size=(8, 33))
    x = keras.ops.cast(keras.ops.convert_to_tensor(x), policy.split("_")[-1])
    out = UnitNorm(dtype=policy)(x)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    norms = np.linalg.norm(keras.ops.convert_to_numpy(out), axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_symbolic_output_has_the_input_shape_in_float32():
    out = UnitNorm()(keras.Input((7, 5), dtype="float16"))
    assert out.shape == (None, 7, 5)
    assert out.dtype == "float32"


def test_from_config_round_trip():
    layer = UnitNorm(name="unit")
    again = UnitNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
