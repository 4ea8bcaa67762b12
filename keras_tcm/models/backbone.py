"""Backbones by name."""

import os
from collections.abc import Callable

import keras

from keras_tcm.models.resnet50 import resnet50
from keras_tcm.models.resnet_small import resnet_small
from keras_tcm.models.vit_base import vit_base
from keras_tcm.models.vit_small import vit_small
from keras_tcm.models.vit_tiny import vit_tiny
from keras_tcm.validation import check_choice

_BACKBONES: dict[str, Callable[[tuple[int, ...], str | None], keras.Model]] = {
    "resnet_small": resnet_small,
    "vit_small": vit_small,
    "vit_tiny": vit_tiny,
    "resnet50": resnet50,
    "vit_base": vit_base,
}


def backbone(
    name: str,
    input_shape: tuple[int, ...],
    weights: str | os.PathLike[str] | None = None,
) -> keras.Model:
    """Build a backbone, ready for `keras_tcm.models.embedding_model`.

    Every backbone takes pixels in [0, 255], as uint8 or floating point, and
    rescales them itself, as its weights expect.

    Args:
        name: One of

            - `"resnet_small"`, a residual network of 0.3 million weights for images
              of 8 to 64 pixels (4 or more), to a map of 128 channels;
            - `"vit_small"`, a Vision Transformer of 0.8 million weights for images
              of 28 to 64 pixels (8 or more), to a sequence of 128 channels;
            - `"vit_tiny"`, one of 0.4 million weights behind a few convolutions, an
              eighth of the cost, for the same images, to a sequence of 96 channels;
            - `"resnet50"`, ResNet-50 of `keras.applications`, for RGB images of
              32 pixels or more, to a map of 2048 channels;
            - `"vit_base"`, ViT-B/16 of keras-hub (`pip install "keras-tcm[hub]"`),
              for RGB images in multiples of 16 pixels, to vectors of 768 channels.

        input_shape: Shape of one image, `(height, width, channels)`; channels come
            first when `keras.config.image_data_format()` is `"channels_first"`
            (not for `"vit_base"`).
        weights: Pretrained weights. `None`, the default, is random initialisation,
            and all that `"resnet_small"`, `"vit_small"` and `"vit_tiny"` have. For
            `"resnet50"` `"imagenet"` or the path of a weights file, for `"vit_base"`
            the name of a preset, such as `"vit_base_patch16_224_imagenet"`, or the path
            of a preset directory. Named weights are downloaded at first use.

    Returns:
        A `keras.Model` from images to a feature map `(batch, h, w, channels)`, a
        sequence `(batch, steps, channels)` or vectors `(batch, channels)`.

    Raises:
        ImportError: If `"vit_base"` is asked for without keras-hub.
        TypeError: If `weights` is neither `None`, nor a string, nor a path.
        ValueError: If `name` is unknown, or has no such `weights`, or cannot take
            images of that `input_shape`.

    Example:
    >>> keras_tcm.models.backbone("resnet_small", (28, 28, 1)).output_shape
    (None, 4, 4, 128)
    >>> keras_tcm.models.backbone("vit_small", (28, 28, 1)).output_shape
    (None, 49, 128)
    """
    check_choice("name", name, _BACKBONES)
    if weights is not None:
        weights = os.fspath(weights)
    return _BACKBONES[name](tuple(input_shape), weights)
