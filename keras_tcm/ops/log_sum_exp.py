"""Sums of exponentials that neither under- nor overflow."""

from typing import Any

from keras import ops


def log_one_plus_sum_exp(exponents: Any, weights: Any) -> Any:
    """log(1 + sum_j weights_j exp(exponents_j)) over the last axis.

    Args:
        exponents: Tensor of shape `(..., n)`.
        weights: Tensor of the same shape, not negative.

    Returns:
        Tensor of shape `(...)`.
    """
    kept = weights > 0
    zero = ops.zeros_like(exponents)
    largest = ops.max(ops.where(kept, exponents, zero), axis=-1, keepdims=True)
    # At least 0, because the 1 counts as an exponent of 0.
    largest = ops.stop_gradient(ops.maximum(largest, 0.0))
    terms = weights * ops.exp(ops.where(kept, exponents - largest, zero))
    total = ops.exp(-largest[..., 0]) + ops.sum(terms, axis=-1)
    return largest[..., 0] + ops.log(total)


def merge_log_one_plus(parts: Any) -> Any:
    """log(1 + sum_r S_r) from all log(1 + S_r).

    Args:
        parts: Tensor of shape `(r, ...)`, not negative.

    Returns:
        Tensor of shape `(...)`.
    """
    largest = ops.stop_gradient(ops.max(parts, axis=0))
    one = ops.exp(-largest)
    # Each part has a 1 of its own.
    return largest + ops.log(one + ops.sum(ops.exp(parts - largest) - one, axis=0))
