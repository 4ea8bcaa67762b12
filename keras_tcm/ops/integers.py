"""Whole numbers beside tensors of integers."""

from typing import Any

from keras import ops


def as_integer(value: Any) -> Any:
    """Return a whole number as an int32 tensor.

    An operation of Keras on a tensor of integers and a number of Python gives floats
    on JAX where `keras.config.floatx()` is `"bfloat16"`.

    Args:
        value: A whole number, or a tensor of one.
    """
    return ops.convert_to_tensor(value, dtype="int32")
