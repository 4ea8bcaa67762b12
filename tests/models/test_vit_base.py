import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.models import backbone

SHAPE = (32, 48, 3)
SCALE = (1 / 127.5, 1 / 100, 1 / 255)
OFFSET = (-1.0, 0.5, 0.0)


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is an optional extra")


@pytest.fixture
def vit(hub):
    return hub.models.ViTBackbone(
        SHAPE, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype("uint8")


def class_tokens(vit, rescaled):
    return ops.convert_to_numpy(vit(rescaled.astype("float32")))[:, 0]


def save_preset(hub, vit, directory, **converter):
    vit.save_to_preset(str(directory))
    hub.layers.ViTImageConverter(**converter).save_to_preset(str(directory))


@pytest.mark.parametrize(
    "scaling",
    [{"scale": SCALE, "offset": OFFSET}, {"scale": 1 / 127.5, "offset": -1.0}, {}],
    ids=["per channel", "numbers", "none"],
)
def test_preset(hub, vit, images, scaling, tmp_path):
    save_preset(hub, vit, tmp_path, **scaling)
    model = backbone("vit_base", SHAPE, weights=tmp_path)
    rescaled = images * np.array(scaling.get("scale", 1)) + scaling.get("offset", 0)
    out = model.predict(images, verbose=0)
    assert out.shape == (3, 8)
    np.testing.assert_allclose(out, class_tokens(vit, rescaled), atol=1e-4)


def test_preset_follows_the_dtype_policy(hub, vit, tmp_path):
    save_preset(hub, vit, tmp_path, scale=1 / 255)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbone("vit_base", SHAPE, weights=tmp_path)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.output.dtype == "bfloat16"


def test_preset_of_another_image_size(hub, vit, tmp_path):
    save_preset(hub, vit, tmp_path)
    message = r"`input_shape` must be \(32, 48, 3\).*Received: input_shape=\(48, 48, 3"
    with pytest.raises(ValueError, match=message):
        backbone("vit_base", (48, 48, 3), weights=tmp_path)


def test_unknown_preset(hub):
    with pytest.raises(ValueError, match="vit_tiny_of_ours"):
        backbone("vit_base", SHAPE, weights="vit_tiny_of_ours")


def test_preset_in_the_documentation_exists(hub):
    presets = hub.models.ViTBackbone.presets
    assert presets["vit_base_patch16_224_imagenet"]


def test_random_weights(hub, images, monkeypatch):
    small = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
    monkeypatch.setattr("keras_tcm.models.vit_base._BASE", small)
    model = backbone("vit_base", SHAPE)
    (vit,) = (x for x in model.layers if isinstance(x, hub.models.ViTBackbone))
    expected = class_tokens(vit, images / 127.5 - 1)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


@pytest.mark.slow
def test_architecture_is_that_of_the_preset(hub):
    model = backbone("vit_base", (224, 224, 3))
    preset = hub.models.ViTBackbone.presets["vit_base_patch16_224_imagenet"]
    assert model.count_params() == preset["metadata"]["params"]
    assert model.output_shape == (None, 768)


@pytest.mark.parametrize("shape", [(32, 32, 1), (8, 32, 3), (33, 32, 3), (32, 32)])
def test_wrong_input_shape(shape):
    with pytest.raises(ValueError, match=r"`input_shape` must .* Received: input_sha"):
        backbone("vit_base", shape)


def test_channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r'must be "channels_last".*Received'):
            backbone("vit_base", (3, 32, 32))
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.parametrize("weights", [None, "vit_base_patch16_224_imagenet"])
def test_without_keras_hub(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r'pip install "keras-tcm\[hub\]"'):
        backbone("vit_base", (224, 224, 3), weights=weights)
