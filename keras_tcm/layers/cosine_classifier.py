"""Cosines between embeddings and learned class directions."""

from typing import Any

import keras
from keras import ops

from keras_tcm.ops import l2_normalize
from keras_tcm.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_tcm")
class CosineClassifier(keras.layers.Layer):
    """Cosine similarity of each embedding to one learned direction per class.

    ```
    cosines[i, c] = <x_i, w_c> / (|x_i| |w_c|)
    ```

    This is the input of the classification losses on embeddings: `ArcFace`,
    `CosFace`, `NormalizedSoftmax` and `ProxyAnchor`. There is no bias, and the
    lengths of the embeddings and of the class directions play no part.

    The layer is float32 under any dtype policy, and a `dtype` argument changes
    nothing: half-precision cosines are too coarse for an angular margin. A zero
    vector has cosine 0 to everything, with a zero gradient.

    Args:
        num_classes: Integer, number of classes.
        kernel_initializer: Initializer of the class directions. Defaults to
            `"glorot_uniform"`.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Attributes:
        kernel: Variable `(d, num_classes)`; column `c` is the direction of class
            `c`, of any length.

    Input shape:
        Tensor `(..., d)` of any floating-point dtype, normalised or not.

    Output shape:
        Tensor `(..., num_classes)`, float32, in [-1, 1] up to rounding.

    Raises:
        TypeError: If `num_classes` is not an integer.
        ValueError: If `num_classes` is not positive, or the last axis of the input
            has no fixed size.

    Example:
    >>> layer = keras_tcm.layers.CosineClassifier(num_classes=10)
    >>> tuple(layer(keras.random.normal((4, 64))).shape)
    (4, 10)

    Reference:
        - [Wang et al., 2017, NormFace](https://arxiv.org/abs/1704.06369)
    """

    def __init__(
        self,
        num_classes: int,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        num_classes = check_integer("num_classes", num_classes, 1)
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the class directions."""
        if input_shape[-1] is None:
            raise ValueError(
                "`CosineClassifier` needs inputs with a fixed last axis. "
                f"Received: input_shape={input_shape}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_classes),
            initializer=self.kernel_initializer,
        )

    def call(self, inputs: Any) -> Any:
        """Return the cosines of `inputs` to the class directions."""
        directions = ops.transpose(l2_normalize(ops.transpose(self.kernel)))
        return ops.matmul(l2_normalize(inputs), directions)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return `input_shape` with `num_classes` as its last axis."""
        return (*input_shape[:-1], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
