"""A tiny Vision Transformer with a convolutional stem, for small images."""

import keras
from keras import layers

from keras_tcm.models.checks import check_image_shape, check_no_weights
from keras_tcm.models.conv_norm import conv_norm
from keras_tcm.models.transformer import flatten_map, transformer

# (channels, strides) of the convolutions of the stem.
_STEM = ((32, 2), (32, 1), (64, 2), (64, 1), (96, 2))
_DEPTH = 3
_HEADS = 3
_SMALLEST = 8


def vit_tiny(input_shape: tuple[int, ...], weights: str | None = None) -> keras.Model:
    """Build a Vision Transformer of 3 pre-norm blocks, 96 channels and 3 heads.

    Its steps come from five convolutions, which scale the image down eightfold, instead
    of square patches: so it learns from few images, and takes the learning rate of a
    residual network. It has 0.4 million weights and takes about as long to train as
    `resnet_small`, an eighth of `vit_small`.

    Args:
        input_shape: Shape of one image, `(height, width, channels)` (channels
            first under that `keras.config.image_data_format()`), at least 8 x 8
            pixels; made for 28 to 64.
        weights: Must be `None`: there are no pretrained weights. Defaults to
            `None`.

    Returns:
        A `keras.Model` from pixels in [0, 255] to a sequence `(batch, steps, 96)`, row
        by row, after a last layer normalisation.

    Raises:
        ValueError: If `weights` is not `None`, or `input_shape` is not that of an
            image of at least 8 x 8 pixels.

    Example:
    >>> keras_tcm.models.backbone("vit_tiny", (28, 28, 1)).output_shape
    (None, 16, 96)

    References:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)
        - [Xiao et al., 2021](https://arxiv.org/abs/2106.14881), from which the
          convolutional stem comes.
    """
    check_no_weights("vit_tiny", weights)
    check_image_shape(input_shape, _SMALLEST)
    inputs = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 255)(inputs)
    for channels, strides in _STEM:
        x = layers.ReLU()(conv_norm(x, channels, 3, strides))
    x = layers.Conv2D(_STEM[-1][0], 1)(x)
    x = transformer(flatten_map(x), _DEPTH, _HEADS)
    return keras.Model(inputs, x, name="vit_tiny")
