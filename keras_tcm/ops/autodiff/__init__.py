"""What `keras.ops` lacks: loops with outputs, and derivatives inside a computation."""

import importlib
from collections.abc import Callable
from typing import Any

import keras


def scan(
    step: Callable[[Any], tuple[Any, Any]], total: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors.

    Unlike `keras.ops.scan`, outputs may have another shape than what is carried on,
    which is a sum, in place where the backend can. It is not differentiable.

    Args:
        step: Function of a tuple of slices that returns what to add to the total, and a
            tuple of outputs.
        total: Tensor to start from, which is not to be used any more.
        xs: Tuple of tensors with leading axes of the same length.
        num_outputs: Number of outputs, all of the dtype of the total.

    Returns:
        The total and a tuple of the stacked outputs.
    """
    return _backend().scan(step, total, xs, num_outputs)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    return _backend().pullback(function, x, upstream)


def gradients(
    function: Callable[[Any], tuple[Any, ...]], x: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values of several functions that share work, and the gradient of each.

    Args:
        function: Function of a tensor that returns scalars.
        x: The tensor.

    Returns:
        The scalars, and as many tensors like `x`.
    """
    return _backend().gradients(function, x)


def upstream_gradient(args: tuple[Any, ...], upstream: Any) -> Any:
    """What a gradient of `keras.ops.custom_gradient` gets, in one way or another."""
    return args[0] if upstream is None else upstream


def _backend() -> Any:
    return importlib.import_module(f"{__name__}.{keras.backend.backend()}_backend")
