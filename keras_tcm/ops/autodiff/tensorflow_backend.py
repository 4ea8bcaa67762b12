"""Loops and derivatives in TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(
    step: Callable[[Any], tuple[Any, Any]], total: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors."""
    length = tf.shape(xs[0])[0]
    arrays = tuple(tf.TensorArray(total.dtype, size=length) for _ in range(num_outputs))

    def body(i: Any, total: Any, arrays: Any) -> tuple[Any, Any, Any]:
        increment, outputs = step(tuple(x[i] for x in xs))
        written = zip(arrays, outputs, strict=True)
        arrays = tuple(array.write(i, output) for array, output in written)
        return i + 1, total + increment, arrays

    _, total, arrays = tf.while_loop(
        lambda i, *_: i < length, body, (tf.constant(0), total, arrays)
    )
    return total, tuple(array.stack() for array in arrays)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x, upstream)


def gradients(
    function: Callable[[Any], tuple[Any, ...]], x: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values of several functions that share work, and the gradient of each."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = function(x)
    zero = tf.UnconnectedGradients.ZERO
    return values, tuple(
        tape.gradient(value, x, unconnected_gradients=zero) for value in values
    )
