"""Loops and derivatives in JAX."""

from collections.abc import Callable
from typing import Any

import jax


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors."""
    return jax.lax.scan(step, carry, xs)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    _, pull = jax.vjp(function, x)
    return pull(upstream)[0]
