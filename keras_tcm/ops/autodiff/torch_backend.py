"""Loops and derivatives in PyTorch."""

from collections.abc import Callable
from typing import Any

import torch


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Any:
    """Loop over the leading axis of some tensors."""
    outputs = []
    for slices in zip(*xs, strict=True):
        carry, output = step(carry, slices)
        outputs.append(output)
    return carry, torch.stack(outputs)


def pullback(function: Callable[[Any], Any], x: Any, upstream: Any) -> Any:
    """Gradient at `x` of the inner product of `function(x)` and `upstream`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = function(x)
    return torch.autograd.grad(value, x, upstream)[0]
