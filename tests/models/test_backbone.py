import contextlib
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_tcm.layers import PositionEmbedding
from keras_tcm.models import backbone

SMALL = ["resnet_small", "vit_small", "vit_tiny"]


@contextlib.contextmanager
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def predict(model, x):
    return model.predict(x, verbose=0).astype("float32")


def jax_on_a_cpu():
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


# ------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_uint8_pixels_under_mixed_precision(name, policy):
    if (name[:3], policy) == ("vit", "mixed_float16") and jax_on_a_cpu():
        pytest.skip("JAX has no attention in float16 on a CPU")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = backbone(name, (8, 8, 1))
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(predict(model, np.full((2, 8, 8, 1), 255, "uint8"))).all()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"one of .*'resnet_small'.*name='resnet'"):
        backbone("resnet", (28, 28, 1))


@pytest.mark.parametrize("name", SMALL)
def test_no_pretrained_weights(name):
    message = rf"`weights` must be None: {name} .*'imagenet'"
    with pytest.raises(ValueError, match=message):
        backbone(name, (28, 28, 1), weights="imagenet")


def test_weights_are_a_name_or_a_path():
    with pytest.raises(TypeError):
        backbone("resnet_small", (28, 28, 1), weights=True)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "shape", [(), (28, 28), (3, 28, 1), (28, 3, 1), (None, None, 3), (28, 28, None)]
)
def test_wrong_input_shape(name, shape):
    with pytest.raises(ValueError, match=r"`input_shape` must .* Received: input_sha"):
        backbone(name, shape)


def test_wrong_input_shape_channels_first():
    message = r"and its channels, which come first\. Received: input_shape=\(28, 28, 3"
    with channels_first(), pytest.raises(ValueError, match=message):
        backbone("vit_small", (28, 28, 3))


# ------------------------------------------------------------------------ resnet_small


@pytest.mark.parametrize(
    ("size", "output_size"), [(8, 2), (16, 4), (28, 4), (32, 4), (64, 8)]
)
def test_feature_map_of_resnet_small(size, output_size):
    model = backbone("resnet_small", (size, size, 3))
    assert model.output_shape == (None, output_size, output_size, 128)


def test_output_is_finite_and_non_negative_for_the_smallest_images():
    out = predict(backbone("resnet_small", [4, 5, 1]), pixels(2, 4, 5, 1))
    assert np.isfinite(out).all()
    assert out.min() >= 0


def test_uint8_and_float_pixels_are_the_same():
    model = backbone("resnet_small", (12, 12, 3))
    x = pixels(4, 12, 12, 3)
    as_bytes, as_floats = (predict(model, x.astype(d)) for d in ("uint8", "float32"))
    np.testing.assert_array_equal(as_bytes, as_floats)


def test_resnet_small_channels_first_shape():
    with channels_first():
        model = backbone("resnet_small", (3, 28, 32))
    assert model.output_shape == (None, 128, 4, 4)


# --------------------------------------------------------------------------- vit_small


@pytest.mark.parametrize(
    ("height", "width", "steps"),
    [
        (8, 8, 8 * 8),
        (28, 28, 7 * 7),
        (30, 30, 8 * 8),
        (32, 32, 8 * 8),
        (48, 48, 8 * 8),
        (64, 64, 8 * 8),
        (28, 45, 7 * 12),
        (64, 32, 16 * 8),
    ],
)
def test_steps_of_vit_small(height, width, steps):
    model = backbone("vit_small", (height, width, 1))
    assert model.output_shape == (None, steps, 128)


def layers_of(model, kind):
    return [
        [np.asarray(w, "float64") for w in layer.get_weights()]
        for layer in model.layers
        if isinstance(layer, kind)
    ]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def norm(x, gamma, beta):
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) + beta


def attention(x, query, query_bias, key, key_bias, value, value_bias, out, out_bias):
    q, k, v = (
        np.einsum("btc,chd->bhtd", x, kernel) + bias[:, None]
        for kernel, bias in ((query, query_bias), (key, key_bias), (value, value_bias))
    )
    weights = softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]))
    return np.einsum("bhtd,hdc->btc", weights @ v, out) + out_bias


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def vision_transformer(model, x, patch):
    """The pre-norm Vision Transformer in NumPy, with the weights of `model`."""
    batch, height, width, channels = x.shape
    x = x / 255
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    x = x.swapaxes(2, 3).reshape(batch, -1, patch * patch * channels)
    ((kernel, bias),) = layers_of(model, layers.Conv2D)
    x = x @ kernel.reshape(-1, kernel.shape[-1]) + bias
    ((positions,),) = layers_of(model, PositionEmbedding)
    x = x + positions
    norms = iter(layers_of(model, layers.LayerNormalization))
    dense = iter(layers_of(model, layers.Dense))
    for weights in layers_of(model, layers.MultiHeadAttention):
        x = x + attention(norm(x, *next(norms)), *weights)
        hidden, out = next(dense), next(dense)
        y = gelu(norm(x, *next(norms)) @ hidden[0] + hidden[1])
        x = x + y @ out[0] + out[1]
    return norm(x, *next(norms))


def shaken(model):
    """Weights away from their symmetric start (zero biases, unit scales)."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    return model


def test_vit_small_agrees_with_numpy():
    model = shaken(backbone("vit_small", (32, 40, 3)))
    x = pixels(2, 32, 40, 3)
    expected = vision_transformer(model, x.astype("float64"), patch=4)
    np.testing.assert_allclose(predict(model, x), expected, atol=1e-4)


def test_images_between_patches_are_padded_with_black():
    model, larger = (backbone("vit_small", (size, size, 1)) for size in (30, 32))
    larger.set_weights(model.get_weights())
    x = pixels(2, 30, 30, 1).astype("float32")
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    np.testing.assert_allclose(predict(model, x), predict(larger, padded), atol=1e-5)


@pytest.mark.parametrize("name", ["vit_small", "vit_tiny"])
def test_vision_transformer_channels_first(name):
    model = backbone(name, (28, 32, 3))
    with channels_first():
        other = backbone(name, (3, 28, 32))
    assert other.output_shape == model.output_shape
    other.set_weights(model.get_weights())
    x = pixels(2, 28, 32, 3)
    np.testing.assert_allclose(
        predict(other, x.transpose(0, 3, 1, 2)), predict(model, x), atol=1e-5
    )


# ---------------------------------------------------------------------------- vit_tiny


@pytest.mark.parametrize(
    ("height", "width", "steps"),
    [(8, 8, 1), (28, 28, 4 * 4), (32, 64, 4 * 8), (33, 64, 5 * 8)],
)
def test_steps_of_vit_tiny(height, width, steps):
    assert backbone("vit_tiny", (height, width, 1)).output_shape == (None, steps, 96)


def test_vit_tiny_sees_its_place_on_the_image():
    """Its stem is local, so only the transformer can tell where something is."""
    model = backbone("vit_tiny", (32, 32, 1))
    left, right = np.zeros((2, 1, 32, 32, 1), "float32")
    left[:, 12:20, 4:12], right[:, 12:20, 20:28] = 255, 255
    mean = [predict(model, x).mean(axis=1) for x in (left, right)]
    assert np.abs(mean[0] - mean[1]).max() > 1e-4
