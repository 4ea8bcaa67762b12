"""ResNet-50 of keras.applications, with its preprocessing inside."""

import keras
from keras import layers, ops

from keras_tcm.models.checks import check_image_shape

_SMALLEST = 32
# Mean pixel of ImageNet in the channel order of the pretrained weights.
_MEAN_BGR = (103.939, 116.779, 123.68)


def resnet50(input_shape: tuple[int, ...], weights: str | None = None) -> keras.Model:
    """Build the ResNet-50 of `keras.applications`, without its classifier.

    It has 23.6 million weights. `keras.applications.resnet.preprocess_input` is
    part of the model (RGB to BGR, less the mean pixel of ImageNet), and made of
    layers and operations of Keras, so that loading a saved model runs no code.

    Args:
        input_shape: Shape of one RGB image, `(height, width, 3)` (channels first
            under that `keras.config.image_data_format()`), at least 32 x 32 pixels.
        weights: `"imagenet"`, downloaded by Keras at first use, or the path of a
            weights file of `keras.applications.ResNet50(include_top=False)`.
            Defaults to `None`: random initialisation.

    Returns:
        A `keras.Model` from RGB pixels in [0, 255] to a non-negative feature map
        `(batch, height / 32, width / 32, 2048)`, sizes rounded up. Its layers have
        the names of `keras.applications`: `conv5_block3_out` is the last.

    Raises:
        ValueError: If `weights` is neither `None`, nor `"imagenet"`, nor a weights
            file that fits, or `input_shape` is not that of an RGB image of at least
            32 x 32 pixels.

    Example:
    ```python
    backbone = keras_tcm.models.backbone(
        "resnet50", (224, 224, 3), weights="imagenet"
    )
    keras_tcm.models.freeze_batch_norm(backbone)
    model = keras_tcm.models.embedding_model(backbone, 128, pooling="gem")
    ```

    Reference:
        - [He et al., 2016](https://arxiv.org/abs/1512.03385)
    """
    check_image_shape(input_shape, _SMALLEST, channels=3)
    channel_axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    inputs = keras.Input(input_shape, name="image")
    x = ops.flip(inputs, axis=channel_axis)
    x = layers.Normalization(channel_axis, mean=_MEAN_BGR, variance=(1, 1, 1))(x)
    network = keras.applications.ResNet50(
        include_top=False, weights=weights, input_tensor=x, input_shape=input_shape
    )
    # The same layers with one input instead of a list of one.
    return keras.Model(inputs, network.output, name="resnet50")
