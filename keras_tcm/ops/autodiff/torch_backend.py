"""Loops and derivatives in PyTorch."""

from collections.abc import Callable
from typing import Any

import torch


def scan(
    step: Callable[[Any], tuple[Any, Any]], total: Any, xs: Any, num_outputs: int
) -> Any:
    """Loop over the leading axis of some tensors."""
    stacks: list[torch.Tensor] = []
    for i, slices in enumerate(zip(*xs, strict=True)):
        increment, outputs = step(slices)
        total += increment
        if not stacks:
            stacks = [
                output.new_empty((len(xs[0]), *output.shape)) for output in outputs
            ]
        for stack, output in zip(stacks, outputs, strict=True):
            stack[i] = output
    return total, tuple(stacks)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = function(x)
    return torch.autograd.grad(value, x, upstream)[0]


# The compiler frees what one gradient needs: the second could not be had.
@torch.compiler.disable
def gradients(
    function: Callable[[Any], tuple[Any, ...]], x: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values of several functions that share work, and the gradient of each."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values = function(x)
    found = tuple(
        torch.autograd.grad(
            value, x, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]
        for value in values
    )
    return tuple(value.detach() for value in values), found
