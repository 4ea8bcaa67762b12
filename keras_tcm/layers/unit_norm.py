"""L2 normalisation of embeddings as a layer."""

from typing import Any

import keras

from keras_tcm.ops import l2_normalize


@keras.saving.register_keras_serializable(package="keras_tcm")
class UnitNorm(keras.layers.Layer):
    """Scales every vector along the last axis to unit length, in float32.

    The layer is float32 under any dtype policy, so that the output has unit norm
    in a `mixed_float16` or `mixed_bfloat16` model too; a `dtype` argument changes
    nothing. A zero vector stays zero and gets a zero gradient.

    Args:
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Input shape:
        Tensor `(..., d)` of any floating-point dtype.

    Output shape:
        Tensor `(..., d)`, float32.

    Example:
    >>> layer = keras_tcm.layers.UnitNorm()
    >>> keras.ops.convert_to_numpy(layer(np.array([[3.0, 4.0]]))).tolist()
    [[0.6, 0.8]]
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Normalise `inputs` along the last axis."""
        return l2_normalize(inputs)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return `input_shape`."""
        return input_shape
