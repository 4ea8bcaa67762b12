"""Loops and derivatives in TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Any:
    """Loop over the leading axis of some tensors."""
    length = tf.shape(xs[0])[0]
    outputs = tf.TensorArray(carry.dtype, size=length)

    def body(i: Any, carry: Any, outputs: Any) -> tuple[Any, Any, Any]:
        carry, output = step(carry, tuple(x[i] for x in xs))
        return i + 1, carry, outputs.write(i, output)

    _, carry, outputs = tf.while_loop(
        lambda i, *_: i < length, body, (tf.constant(0), carry, outputs)
    )
    return carry, outputs.stack()


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x, upstream)
