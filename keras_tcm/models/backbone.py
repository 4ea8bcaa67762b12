"""Backbones by name."""

from collections.abc import Callable

import keras

from keras_tcm.models.resnet_small import resnet_small
from keras_tcm.validation import check_choice

_BACKBONES: dict[str, Callable[[tuple[int, ...], str | None], keras.Model]] = {
    "resnet_small": resnet_small,
}


def backbone(
    name: str, input_shape: tuple[int, ...], weights: str | None = None
) -> keras.Model:
    """Build a backbone, ready for `keras_tcm.models.embedding_model`.

    Every backbone takes pixels in [0, 255], as uint8 or floating point, and
    rescales them itself.

    Args:
        name: `"resnet_small"`, a residual network for images of 8 to 64 pixels.
        input_shape: Shape of one image, `(height, width, channels)`; channels come
            first when `keras.config.image_data_format()` is `"channels_first"`.
        weights: Pretrained weights. `None`, the default, is random
            initialisation, and all that `"resnet_small"` has.

    Returns:
        A `keras.Model` from images to a feature map `(batch, h, w, channels)`.

    Raises:
        ValueError: If `name` is unknown, or has no such `weights`, or cannot take
            images of that `input_shape`.

    Example:
    >>> keras_tcm.models.backbone("resnet_small", (28, 28, 1)).output_shape
    (None, 4, 4, 128)
    """
    check_choice("name", name, _BACKBONES)
    return _BACKBONES[name](tuple(input_shape), weights)
