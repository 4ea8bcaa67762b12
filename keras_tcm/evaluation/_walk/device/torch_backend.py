"""Devices of PyTorch."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import torch


def _device() -> Any:
    return keras.ops.zeros(()).device


def is_gpu() -> bool:
    """Whether this thread computes on a GPU."""
    return _device().type == "cuda"


def free_bytes() -> int | None:
    """Free memory of the device of this thread, where it tells."""
    if not is_gpu():
        return None
    free, _ = torch.cuda.mem_get_info(_device())
    return free


def local_devices() -> list[Any]:
    """Devices of the default kind that belong to this process."""
    current = _device()
    if current.type == "cuda" and not current.index:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return []


def on_device(device: Any) -> contextlib.AbstractContextManager:
    """Compute in this thread on a device."""
    return keras.device(device)


def compiled(function: Callable) -> Callable:
    """Compile a function whose first argument is used up."""
    return function


def select(is_wanted: Any, *tensors: Any) -> tuple[Any, ...]:
    """Leave out what is not wanted, where shapes may depend on data."""
    # Op by op, each would otherwise go through all of them.
    places = is_wanted.nonzero(as_tuple=True)
    tensors = torch.broadcast_tensors(is_wanted, *tensors)
    return tuple(x[places] for x in tensors)


def add_at(counts: Any, places: Any, is_counted: Any) -> Any:
    """Add 1 to counts at places."""
    amounts = is_counted.to(counts.dtype)
    places = torch.where(is_counted, places, 0)
    return counts.index_add_(0, places.ravel(), amounts.ravel())
