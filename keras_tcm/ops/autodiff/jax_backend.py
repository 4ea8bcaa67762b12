"""Loops and derivatives in JAX."""

from collections.abc import Callable
from typing import Any

import jax


def scan(
    step: Callable[[Any], tuple[Any, Any]], total: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors."""

    def add(total: Any, x: Any) -> tuple[Any, Any]:
        increment, outputs = step(x)
        return total + increment, outputs

    return jax.lax.scan(add, total, xs)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    _, pull = jax.vjp(function, x)
    return pull(upstream)[0]


def gradients(
    function: Callable[[Any], tuple[Any, ...]], x: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values of several functions that share work, and the gradient of each."""
    values, pull = jax.vjp(function, x)
    zeros = [jax.numpy.zeros_like(value) for value in values]
    return values, tuple(
        pull((*zeros[:place], jax.numpy.ones_like(value), *zeros[place + 1 :]))[0]
        for place, value in enumerate(values)
    )
