"""The encoder of the small Vision Transformers."""

import keras
from keras import layers

from keras_tcm.layers import PositionEmbedding


def flatten_map(features: keras.KerasTensor) -> keras.KerasTensor:
    """Turn a feature map into a sequence `(batch, steps, channels)`, row by row."""
    if keras.config.image_data_format() == "channels_first":
        _, channels, height, width = features.shape
        x = layers.Reshape((channels, height * width))(features)
        return layers.Permute((2, 1))(x)
    _, height, width, channels = features.shape
    return layers.Reshape((height * width, channels))(features)


def transformer(x: keras.KerasTensor, depth: int, heads: int) -> keras.KerasTensor:
    """Add positions, then apply pre-norm blocks and a last normalisation.

    Args:
        x: Sequence `(batch, steps, channels)`.
        depth: Number of blocks, whose MLPs have twice as many channels.
        heads: Attention heads of a block.

    Returns:
        Sequence of the same shape.
    """
    width = x.shape[-1]
    x = PositionEmbedding()(x)
    for _ in range(depth):
        normed = _norm(x)
        attended = layers.MultiHeadAttention(heads, width // heads)(normed, normed)
        x = layers.Add()([x, attended])
        hidden = layers.Dense(2 * width, activation="gelu")(_norm(x))
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    return _norm(x)


def _norm(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LayerNormalization(epsilon=1e-6)(x)
