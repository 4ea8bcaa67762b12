"""The outputs of two towers as one output."""

import math
from typing import Any

import keras
from keras import ops

from keras_tcm.ops.logit_scale import read_logit_scale, write_logit_scale
from keras_tcm.validation import check_number


class _AtMost(keras.constraints.Constraint):
    """Keeps the trained logarithm of the scale from growing beyond a value."""

    def __init__(self, highest: float) -> None:
        self.highest = highest

    def __call__(self, w: Any) -> Any:
        return ops.minimum(w, self.highest)


@keras.saving.register_keras_serializable(package="keras_tcm")
class StackTowers(keras.layers.Layer):
    """Stacks the embeddings of two towers, so that one loss sees both.

    A model that embeds queries and gallery items (texts and pictures, questions and
    documents) by two towers ends with this layer. All pairwise losses, sums and metrics
    of this package then take its output as that of one tower: they compare queries with
    items instead of samples with each other. `y` tells which rows match: those with
    equal labels, and so a query with the item of its own row. Without labels, number
    the rows: `y = np.arange(n)`.

    It can learn the scale and the bias of the logits that CLIP and SigLIP learn, for
    `InfoNCE(temperature=None)` and `SigLIP(scale=None, bias=None)`. The lengths of the
    vectors carry them to the loss: all queries become `scale` long, and all items
    `exp(bias / 10)`. Directions, and with them all cosine similarities, stay as they
    are.

    Args:
        scale: Scale of the logits to begin with, above 0: 1 / temperature. Defaults to
            `None`: none is learned, and vectors stay as they are.
        bias: Bias of the logits to begin with. Defaults to 0, which is not learned.
            `InfoNCE` does not depend on it.
        max_scale: Largest scale that is learned, above 0. Defaults to 100, as in CLIP.
        **kwargs: Keyword arguments of `keras.layers.Layer`, such as `name`.

    Input shape:
        A list of two tensors of shape `(batch, d)`: queries and gallery items.

    Output shape:
        Tensor of shape `(batch, 2, d)`, float32 under any dtype policy.

    Raises:
        ValueError: If the inputs are not two of one shape, a number is out of range, or
            there is a `bias` without a `scale`.
        TypeError: If a number is none.

    Example:

    ```python
    towers = keras_tcm.layers.StackTowers()([text_embedding, image_embedding])
    model = keras.Model([text_input, image_input], towers)
    model.compile("adam", loss=keras_tcm.losses.InfoNCE())
    model.fit([texts, images], labels, batch_size=256)
    ```

    References:
        - [Radford et al., ICML 2021](https://arxiv.org/abs/2103.00020), for the scale
        - [Zhai et al., ICCV 2023](https://arxiv.org/abs/2303.15343), for the bias
    """

    def __init__(
        self,
        scale: float | None = None,
        bias: float | None = None,
        max_scale: float = 100.0,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if scale is None and bias is not None:
            raise ValueError(
                "`bias` must be None without a `scale`. "
                f"Received: scale=None, bias={bias!r}"
            )
        self.max_scale = check_number("max_scale", max_scale, 0, open_low=True)
        if scale is not None:
            scale = check_number("scale", scale, 0, self.max_scale, open_low=True)
        self.scale = scale
        self.bias = None if bias is None else check_number("bias", bias)

    def build(self, input_shape: Any) -> None:
        """Check the inputs and make what is learned."""
        self._check_shapes(input_shape)
        if self.scale is not None:
            self._log_scale = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(math.log(self.scale)),
                constraint=_AtMost(math.log(self.max_scale)),
                name="log_scale",
            )
        if self.bias is not None:
            self._bias = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(self.bias),
                name="bias",
            )

    def call(self, inputs: Any) -> Any:
        """Stack queries and gallery items."""
        stacked = ops.stack(list(inputs), axis=1)
        if self.scale is None:
            return stacked
        scale = ops.exp(ops.convert_to_tensor(self._log_scale))
        bias = ops.zeros_like(scale)
        if self.bias is not None:
            bias = ops.convert_to_tensor(self._bias)
        return write_logit_scale(stacked, scale, bias)

    @staticmethod
    def logit_scale(outputs: Any) -> tuple[Any, Any]:
        """Read the learned scale and bias off outputs.

        Args:
            outputs: Outputs of the layer, shape `(n, 2, d)`.

        Returns:
            Scale and bias, scalars; `-bias / scale` is the cosine similarity at which
            a model trained with `SigLIP` finds a match as likely as not.
        """
        return read_logit_scale(ops.convert_to_tensor(outputs))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return `(batch, 2, d)`."""
        self._check_shapes(input_shape)
        batch, dimension = input_shape[0]
        return (batch, 2, dimension)

    @staticmethod
    def _check_shapes(shapes: Any) -> None:
        is_list = isinstance(shapes, list | tuple) and all(
            isinstance(shape, list | tuple) for shape in shapes
        )
        if not is_list or len(shapes) != 2 or any(len(shape) != 2 for shape in shapes):
            raise ValueError(
                "`inputs` must be a list of two tensors of shape (batch, dimension): "
                f"queries and gallery items. Received: shapes {shapes}"
            )
        if shapes[0][1] != shapes[1][1]:
            raise ValueError(
                "`inputs` must have the same dimension: give both towers as many "
                f"outputs. Received: shapes {shapes}"
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "bias": self.bias,
            "max_scale": self.max_scale,
        }
