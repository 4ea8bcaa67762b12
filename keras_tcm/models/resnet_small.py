"""A small residual network for small images."""

import keras
from keras import layers

from keras_tcm.models.checks import check_image_shape, check_no_weights
from keras_tcm.models.conv_norm import conv_norm

_STAGE_WIDTHS = (32, 64, 128)
# From this size on the stem halves the image, which makes all that follows four
# times cheaper. Smaller images would be left with a single pixel at the end.
_STRIDED_STEM_FROM = 24
_SMALLEST = 4


def _residual_block(
    x: keras.KerasTensor, filters: int, strides: int
) -> keras.KerasTensor:
    shortcut = x if strides == 1 else conv_norm(x, filters, 1, strides)
    x = layers.ReLU()(conv_norm(x, filters, 3, strides))
    x = conv_norm(x, filters, 3)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def resnet_small(
    input_shape: tuple[int, ...], weights: str | None = None
) -> keras.Model:
    """Build a residual network with three stages of 32, 64 and 128 channels.

    One residual block a stage and 0.3 million weights: cheap enough to train on a
    CPU. Images of 24 pixels and more are halved by the stem.

    Args:
        input_shape: Shape of one image, `(height, width, channels)` (channels
            first under that `keras.config.image_data_format()`), at least 4 x 4
            pixels; made for 8 to 64.
        weights: Must be `None`: there are no pretrained weights. Defaults to
            `None`.

    Returns:
        A `keras.Model` from pixels in [0, 255] to a non-negative feature map
        `(batch, h, w, 128)`.

    Raises:
        ValueError: If `weights` is not `None`, or `input_shape` is not that of an
            image of at least 4 x 4 pixels.

    Example:
    >>> keras_tcm.models.backbone("resnet_small", (8, 8, 1)).output_shape
    (None, 2, 2, 128)
    """
    check_no_weights("resnet_small", weights)
    pixels = check_image_shape(input_shape, _SMALLEST)
    inputs = keras.Input(input_shape, name="image")
    stem_strides = 2 if min(pixels) >= _STRIDED_STEM_FROM else 1
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.ReLU()(conv_norm(x, _STAGE_WIDTHS[0], 3, stem_strides))
    for stage, width in enumerate(_STAGE_WIDTHS):
        x = _residual_block(x, width, strides=1 if stage == 0 else 2)
    return keras.Model(inputs, x, name="resnet_small")
