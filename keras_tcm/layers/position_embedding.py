"""Learned positions of the steps of a sequence."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tcm")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector per step to a sequence.

    ```
    outputs[b, t, c] = inputs[b, t, c] + embedding[t, c]
    ```

    Attention is blind to the order of its inputs; with this layer before it, a
    transformer knows which patch, or which token, is where. A mask passes through.

    Args:
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Attributes:
        embedding: Variable `(steps, channels)`, small random numbers at the start.

    Input shape:
        Tensor `(batch, steps, channels)`; `steps` and `channels` are fixed.

    Output shape:
        The input shape, in the compute dtype.

    Raises:
        ValueError: If the input does not have three axes, the last two of known
            size.

    Example:
    >>> layer = keras_tcm.layers.PositionEmbedding()
    >>> tuple(layer(keras.ops.zeros((2, 49, 128))).shape)
    (2, 49, 128)

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the vectors."""
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(
                "`PositionEmbedding` needs a sequence (batch, steps, channels) with "
                "a known number of steps and channels. "
                f"Received: input_shape={input_shape}"
            )
        self.embedding = self.add_weight(
            name="embedding",
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, inputs: Any) -> Any:
        """Add the vectors to `inputs`."""
        return ops.add(inputs, self.embedding)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return `input_shape`."""
        return input_shape
