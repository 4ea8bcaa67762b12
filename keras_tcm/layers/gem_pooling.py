"""Generalised-mean pooling."""

from typing import Any

import keras
from keras import ops

from keras_tcm.validation import check_number


class _AtLeastOne(keras.constraints.Constraint):
    """Keeps the trained exponent between the mean (1) and the maximum."""

    def __call__(self, w: Any) -> Any:
        return ops.maximum(w, 1.0)


@keras.saving.register_keras_serializable(package="keras_tcm")
class GeMPooling(keras.layers.Layer):
    """Generalised mean of a feature map over its spatial axes.

    ```
    y_c = (mean over h, w of max(x_hwc, epsilon) ** p) ** (1 / p)
    ```

    `p = 1` is average pooling and `p -> infinity` is maximum pooling; in between,
    strong local responses count for more. One exponent is shared by all channels.
    The powers are computed in float32, relative to each channel's maximum, so
    that no activation and no exponent overflows.

    Args:
        p: Float >= 1, the exponent at the start. Defaults to `3.0`.
        trainable_p: Whether `p` is learned; it stays >= 1. Defaults to `True`.
        epsilon: Float > 0, floor of the activations, which makes the power and
            its gradient finite. Defaults to `1e-6`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Input shape:
        Tensor `(batch, height, width, channels)`, or `(batch, channels, height,
        width)` when `keras.config.image_data_format()` is `"channels_first"`.
        Meant for non-negative features, as after a ReLU.

    Output shape:
        Tensor `(batch, channels)` in the compute dtype.

    Raises:
        TypeError: If `p` or `epsilon` is not a number.
        ValueError: If `p < 1` or `epsilon <= 0`, or either is not finite, or the
            input does not have four axes.

    Example:
    >>> layer = keras_tcm.layers.GeMPooling(p=3.0)
    >>> tuple(layer(keras.ops.ones((2, 7, 7, 128))).shape)
    (2, 128)

    Reference:
        - [Radenovic et al., 2018](https://arxiv.org/abs/1711.02512)
    """

    def __init__(
        self,
        p: float = 3.0,
        trainable_p: bool = True,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.p = check_number("p", p, 1)
        self.trainable_p = trainable_p
        self.epsilon = check_number("epsilon", epsilon, 0, open_low=True)
        self._channels_first = keras.config.image_data_format() == "channels_first"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the exponent."""
        if len(input_shape) != 4:
            raise ValueError(
                "`GeMPooling` needs a feature map with four axes. "
                f"Received: input_shape={input_shape}"
            )
        self.exponent = self.add_weight(
            name="exponent",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(self.p),
            constraint=_AtLeastOne(),
            trainable=self.trainable_p,
            autocast=False,
        )

    def call(self, inputs: Any) -> Any:
        """Pool `inputs` over the spatial axes."""
        axes = (2, 3) if self._channels_first else (1, 2)
        x = ops.maximum(ops.cast(inputs, "float32"), self.epsilon)
        # The generalised mean of a * x is a times that of x: taking the maximum
        # out leaves powers in (0, 1] and, stopped, the gradient as it is.
        largest = ops.stop_gradient(ops.max(x, axis=axes, keepdims=True))
        mean = ops.mean(ops.power(x / largest, self.exponent), axis=axes)
        pooled = ops.squeeze(largest, axis=axes) * ops.power(mean, 1 / self.exponent)
        return ops.cast(pooled, self.compute_dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return `(batch, channels)`."""
        return (input_shape[0], input_shape[1 if self._channels_first else -1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "p": self.p,
            "trainable_p": self.trainable_p,
            "epsilon": self.epsilon,
        }
