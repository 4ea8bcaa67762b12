"""Devices of JAX."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def is_gpu() -> bool:
    """Whether this thread computes on a GPU."""
    (device,) = jnp.zeros(()).devices()
    return device.platform == "gpu"


def free_bytes() -> int | None:
    """Free memory of the device of this thread, where it tells."""
    (device,) = jnp.zeros(()).devices()
    # A CPU has no statistics.
    found = device.memory_stats() or {}
    if "bytes_limit" not in found:
        return None
    return found["bytes_limit"] - found.get("bytes_in_use", 0)


def local_devices() -> list[Any]:
    """Devices of the default kind that belong to this process."""
    # Other processes' devices are no use: their arrays cannot be read here.
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    return [] if chosen else jax.local_devices()


def on_device(device: Any) -> contextlib.AbstractContextManager:
    """Compute in this thread on a device."""
    return jax.default_device(device)


def compiled(function: Callable) -> Callable:
    """Compile a function whose first argument is used up."""
    return jax.jit(function, donate_argnums=0)


def select(is_wanted: Any, *tensors: Any) -> tuple[Any, ...]:
    """Leave out what is not wanted, where shapes may depend on data."""
    return is_wanted, *tensors


def add_at(counts: Any, places: Any, is_counted: Any) -> Any:
    """Add 1 to counts at places."""
    # What lies beyond the last place is dropped.
    places = jnp.where(is_counted, places, counts.size)
    return counts.at[places].add(1, mode="drop")
