"""A small Vision Transformer for small images."""

import keras
from keras import layers

from keras_tcm.models.checks import check_image_shape, check_no_weights
from keras_tcm.models.transformer import flatten_map, transformer

_WIDTH = 128
_DEPTH = 6
_HEADS = 4
# Patches along the shorter side, about: 64 tokens are enough for images so small,
# and cheap.
_PATCHES = 8
_SMALLEST = 8


def vit_small(input_shape: tuple[int, ...], weights: str | None = None) -> keras.Model:
    """Build a Vision Transformer of 6 pre-norm blocks, 128 channels and 4 heads.

    It has 0.8 million weights. The patches are square, an eighth of the shorter
    side of the image, rounded (4 pixels for 28 and 32, 8 for 64), so that there are
    7 to 9 of them along it. An image that whole patches do not cover is padded with
    black to one that they do. There is no class token: the steps are meant to be
    averaged, as `embedding_model` does.

    It wants a lower learning rate than a residual network, such as Adam's at 3e-4,
    best after a warm-up. JAX compiles no attention in float16 for a CPU, of this or
    any other Keras model: take `mixed_bfloat16` there.

    Args:
        input_shape: Shape of one image, `(height, width, channels)` (channels
            first under that `keras.config.image_data_format()`), at least 8 x 8
            pixels; made for 28 to 64.
        weights: Must be `None`: there are no pretrained weights. Defaults to
            `None`.

    Returns:
        A `keras.Model` from pixels in [0, 255] to a sequence `(batch, steps, 128)`
        of the patches, row by row, after a last layer normalisation.

    Raises:
        ValueError: If `weights` is not `None`, or `input_shape` is not that of an
            image of at least 8 x 8 pixels.

    Example:
    >>> keras_tcm.models.backbone("vit_small", (32, 32, 3)).output_shape
    (None, 64, 128)

    References:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)
        - [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), from which the
          narrow MLP (twice the width) for small images comes.
    """
    check_no_weights("vit_small", weights)
    pixels = check_image_shape(input_shape, _SMALLEST)
    # Rounded to the nearest, which is up from a half.
    size = (min(pixels) + _PATCHES // 2) // _PATCHES
    inputs = keras.Input(input_shape, name="image")
    # Black is zero, not -1: patches of bare background then add little to the mean
    # over the patches; with -1, embeddings of handwritten digits all but coincided.
    x = layers.Rescaling(1 / 255)(inputs)
    # "same" pads where whole patches do not cover the image.
    x = layers.Conv2D(_WIDTH, size, strides=size, padding="same")(x)
    x = transformer(flatten_map(x), _DEPTH, _HEADS)
    return keras.Model(inputs, x, name="vit_small")
