"""A convolution with batch normalisation."""

import keras
from keras import layers


def conv_norm(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int = 1
) -> keras.KerasTensor:
    """Apply a convolution that keeps the size (over `strides`), and batch norm."""
    channels_first = keras.config.image_data_format() == "channels_first"
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    return layers.BatchNormalization(axis=1 if channels_first else -1)(x)
