"""Whole numbers beside tensors of integers."""

from typing import Any

import keras
from keras import ops


def widest_integer() -> str:
    """Name of the widest type of integers that tensors of the backend have."""
    if keras.backend.backend() != "jax":
        return "int64"
    import jax

    is_wide = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    return "int64" if is_wide else "int32"


def as_integer(value: Any) -> Any:
    """Return a whole number as an int32 tensor.

    An operation of Keras on a tensor of integers and a number of Python gives floats
    on JAX where `keras.config.floatx()` is `"bfloat16"`.

    Args:
        value: A whole number, or a tensor of one.
    """
    return ops.convert_to_tensor(value, dtype="int32")
