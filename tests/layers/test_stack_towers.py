"""Two towers as one output, and the scale and bias in the lengths of their vectors."""

import keras
import numpy as np
import pytest

from keras_tcm.layers import StackTowers

X = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
INPUTS = [X[:, 0], X[:, 1]]


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_stacks_as_they_are():
    layer = StackTowers()
    np.testing.assert_array_equal(numpy(layer(INPUTS)), X)
    assert not layer.weights


def test_lengths_carry_what_is_learned():
    layer = StackTowers(scale=20.0, bias=-7.0)
    out = numpy(layer(INPUTS))
    np.testing.assert_allclose(unit(out), unit(X), rtol=1e-5)
    lengths = np.linalg.norm(out, axis=-1)
    np.testing.assert_allclose(lengths[:, 0], 20, rtol=1e-6)
    np.testing.assert_allclose(lengths[:, 1], np.exp(-0.7), rtol=1e-6)
    assert [w.name for w in layer.trainable_weights] == ["log_scale", "bias"]
    scale, bias = layer.logit_scale(out)
    assert (float(scale), float(bias)) == pytest.approx((20, -7), rel=1e-5)


def test_scale_alone():
    layer = StackTowers(scale=5.0)
    out = numpy(layer(INPUTS))
    assert len(layer.trainable_weights) == 1
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1)[:, 1], 1, rtol=1e-6)


def test_zero_vectors_stay_zero_and_tell_nothing():
    layer = StackTowers(scale=20.0, bias=-7.0)
    x = X.copy()
    x[2] = 0
    out = layer([x[:, 0], x[:, 1]])
    np.testing.assert_array_equal(numpy(out)[2], 0)
    scale, bias = layer.logit_scale(out)
    assert (float(scale), float(bias)) == pytest.approx((20, -7), rel=1e-5)
    scale, bias = layer.logit_scale(np.zeros((3, 2, 4), "float32"))
    assert (float(scale), float(bias)) == (1, 0)


def test_scale_is_bounded():
    layer = StackTowers(scale=90.0, max_scale=95.0)
    layer(INPUTS)
    (weight,) = layer.trainable_weights
    assert float(numpy(weight.constraint(weight + 1.0))) == pytest.approx(np.log(95))
    assert float(numpy(weight.constraint(weight - 1.0))) == pytest.approx(
        np.log(90) - 1
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_float32_under_half_precision(policy):
    dtype = policy.split("_")[-1]
    inputs = [
        keras.ops.cast(keras.ops.convert_to_tensor(each), dtype) for each in INPUTS
    ]
    layer = StackTowers(scale=20.0, bias=-7.0, dtype=policy)
    out = layer(inputs)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert float(layer.logit_scale(out)[1]) == pytest.approx(-7, rel=1e-5)


def test_symbolic_output():
    out = StackTowers(scale=2.0)([keras.Input((3,)), keras.Input((3,))])
    assert out.shape == (None, 2, 3)
    assert out.dtype == "float32"


def test_from_config_round_trip():
    layer = StackTowers(scale=3.0, bias=-1.0, max_scale=50.0, name="meet")
    again = StackTowers.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        (INPUTS[0], "list of two tensors"),
        ([*INPUTS, INPUTS[0]], "list of two tensors"),
        ([X, X], "list of two tensors"),
        ([INPUTS[0], INPUTS[1][:, :2]], "same dimension"),
    ],
    ids=["one", "three", "rank", "dimension"],
)
def test_inputs(inputs, match):
    with pytest.raises(ValueError, match=match):
        StackTowers()(inputs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bias": -1.0},
        {"scale": 0.0},
        {"scale": 200.0},
        {"scale": 1.0, "max_scale": 0.0},
        {"scale": 1.0, "bias": float("nan")},
    ],
    ids=str,
)
def test_arguments(arguments):
    with pytest.raises(ValueError, match=r"`(bias|scale|max_scale)` must"):
        StackTowers(**arguments)
