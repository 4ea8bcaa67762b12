"""What `keras.ops` lacks: loops with outputs, and derivatives inside a computation."""

import importlib
from collections.abc import Callable
from typing import Any

import keras


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Any:
    """Loop over the leading axis of some tensors.

    Unlike `keras.ops.scan`, outputs may have another shape than the carry. It is not
    differentiable.

    Args:
        step: Function of the carry and a tuple of slices that returns the next carry
            and an output, one tensor each.
        carry: First carry.
        xs: Tuple of tensors with leading axes of the same length.

    Returns:
        The last carry and the stacked outputs.
    """
    return _backend().scan(step, carry, xs)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    return _backend().pullback(function, x, upstream)


def _backend() -> Any:
    return importlib.import_module(f"{__name__}.{keras.backend.backend()}_backend")
