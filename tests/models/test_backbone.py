import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.models import backbone


@pytest.mark.parametrize(
    ("size", "output_size"), [(8, 2), (16, 4), (28, 4), (32, 4), (64, 8)]
)
def test_feature_map_of_resnet_small(size, output_size):
    model = backbone("resnet_small", (size, size, 3))
    assert model.output_shape == (None, output_size, output_size, 128)


def test_output_is_finite_and_non_negative_for_the_smallest_images():
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 1))
    out = ops.convert_to_numpy(backbone("resnet_small", [4, 5, 1])(x))
    assert np.isfinite(out).all()
    assert out.min() >= 0


def test_uint8_and_float_pixels_are_the_same():
    model = backbone("resnet_small", (12, 12, 3))
    x = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3))
    as_bytes, as_floats = (
        model.predict(x.astype(dtype), verbose=0) for dtype in ("uint8", "float32")
    )
    np.testing.assert_array_equal(as_bytes, as_floats)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_uint8_pixels_under_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = backbone("resnet_small", (8, 8, 1))
    finally:
        keras.config.set_dtype_policy(before)
    out = model(np.full((2, 8, 8, 1), 255, "uint8"))
    assert np.isfinite(ops.convert_to_numpy(ops.cast(out, "float32"))).all()


def test_channels_first_shape():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = backbone("resnet_small", (3, 28, 32))
    finally:
        keras.config.set_image_data_format(before)
    assert model.output_shape == (None, 128, 4, 4)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"one of .*'resnet_small'.*name='resnet'"):
        backbone("resnet", (28, 28, 1))


def test_no_pretrained_weights():
    with pytest.raises(ValueError, match=r"`weights` must be None.*'imagenet'"):
        backbone("resnet_small", (28, 28, 1), weights="imagenet")


@pytest.mark.parametrize("shape", [(28, 28), (3, 28, 1), (None, None, 3)])
def test_wrong_input_shape(shape):
    with pytest.raises(ValueError, match=r"`input_shape` must .* Received: input_sha"):
        backbone("resnet_small", shape)
