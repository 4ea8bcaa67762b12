"""Loops and derivatives in TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors."""
    length = tf.shape(xs[0])[0]
    arrays = tuple(tf.TensorArray(carry.dtype, size=length) for _ in range(num_outputs))

    def body(i: Any, carry: Any, arrays: Any) -> tuple[Any, Any, Any]:
        carry, outputs = step(carry, tuple(x[i] for x in xs))
        written = zip(arrays, outputs, strict=True)
        return i + 1, carry, tuple(array.write(i, output) for array, output in written)

    _, carry, arrays = tf.while_loop(
        lambda i, *_: i < length, body, (tf.constant(0), carry, arrays)
    )
    return carry, tuple(array.stack() for array in arrays)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x, upstream)
