import keras
import numpy as np
import pytest

from keras_tcm.models import backbone

SHAPE = (32, 40, 3)


def predict(model, x):
    return model.predict(x, verbose=0)


@pytest.fixture(scope="module")
def plain():
    """The network of keras.applications, which wants preprocessed pixels."""
    return keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=SHAPE
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("uint8")


@pytest.fixture(scope="module")
def expected(plain, images):
    preprocess = keras.applications.resnet.preprocess_input
    return predict(plain, preprocess(images.astype("float32")))


# ImageNet weights come in the older of the two formats.
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_file_and_preprocessing(suffix, plain, images, expected, tmp_path):
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".h5":
        plain.save(path)
    else:
        plain.save_weights(path)
    model = backbone("resnet50", SHAPE, weights=path)
    path.unlink()  # 90 MB
    assert model.output_shape == (None, 1, 2, 2048)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(predict(model, images), expected, atol=1e-4 * scale)


@pytest.mark.slow
def test_channels_first(plain, images, expected):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = backbone("resnet50", (3, 32, 40))
    finally:
        keras.config.set_image_data_format(before)
    model.set_weights(plain.get_weights())
    out = predict(model, images.transpose(0, 3, 1, 2))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(out.transpose(0, 2, 3, 1), expected, atol=1e-4 * scale)


@pytest.mark.slow
def test_imagenet_weights_are_left_to_keras(monkeypatch):
    asked, build = [], keras.applications.ResNet50

    def without_download(**kwargs):
        asked.append(kwargs["weights"])
        return build(**{**kwargs, "weights": None})

    monkeypatch.setattr(keras.applications, "ResNet50", without_download)
    backbone("resnet50", SHAPE, weights="imagenet")
    assert asked == ["imagenet"]


def test_missing_weights_file(tmp_path):
    with pytest.raises(ValueError, match=r"`weights` .*missing\.h5"):
        backbone("resnet50", SHAPE, weights=tmp_path / "missing.h5")


@pytest.mark.parametrize("shape", [(32, 32, 1), (31, 32, 3), (3, 32, 32), (32, 32)])
def test_wrong_input_shape(shape):
    message = r"`input_shape` must .* at least 32 pixels, and 3 channels.* Received: in"
    with pytest.raises(ValueError, match=message):
        backbone("resnet50", shape)
