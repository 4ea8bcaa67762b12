"""Cosine similarities that stay exact and finite for any norm."""

from typing import Any

from keras import ops

# Beyond all similarities and logits, and finite: TensorFlow's `enable_check_numerics`
# stops at infinities.
BEYOND = 1e30


def l2_normalize(x: Any) -> Any:
    """Scale the vectors along the last axis to unit length.

    Vectors are first divided by their largest absolute entry, so that neither
    tiny (1e-20) nor huge (1e20) norms under- or overflow when squared. A zero
    vector stays zero and passes a zero gradient; NaN and infinity come out as
    NaN.

    Args:
        x: Floating-point tensor of shape `(..., d)`. Half precision is computed
            in float32.

    Returns:
        Tensor of the same shape, float32 (float64 if `x` is float64).

    Example:

    >>> keras.ops.convert_to_numpy(
    ...     keras_tcm.ops.l2_normalize([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    x = ops.convert_to_tensor(x)
    if ops.dtype(x) != "float64":
        x = ops.cast(x, "float32")
    # Scale invariance makes the gradient through `largest` vanish.
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=-1, keepdims=True))
    # `!=` rather than `>`: NaN must come through.
    is_nonzero = ops.not_equal(largest, 0)
    x = x / ops.where(is_nonzero, largest, ops.ones_like(largest))
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    norm = ops.sqrt(ops.where(is_nonzero, squared, ops.ones_like(squared)))
    return ops.where(is_nonzero, x / norm, ops.zeros_like(x))


def cosine_similarities(x: Any, y: Any = None) -> Any:
    """Cosine similarities between the rows of two matrices.

    Args:
        x: Tensor of shape `(n, d)`.
        y: Tensor of shape `(m, d)`. Defaults to `x`.

    Returns:
        Float tensor of shape `(n, m)` with values in [-1, 1] up to rounding; 0
        for pairs with a zero vector.

    Example:

    >>> keras.ops.convert_to_numpy(keras_tcm.ops.cosine_similarities(
    ...     [[1.0, 0.0], [3.0, 4.0]], [[0.0, 2.0]])).tolist()
    [[0.0], [0.8]]
    """
    x = l2_normalize(x)
    y = x if y is None else l2_normalize(y)
    return ops.matmul(x, ops.transpose(y))
