"""Devices of TensorFlow."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def _device_name() -> str:
    return tf.zeros(()).device


def is_gpu() -> bool:
    """Whether this thread computes on a GPU."""
    return "GPU" in _device_name()


def free_bytes() -> int | None:
    """Free memory of the device of this thread, where it tells."""
    # TensorFlow tells what it uses, and not what there is.
    return None


def local_devices() -> list[Any]:
    """Devices of the default kind that belong to this process."""
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    is_chosen = not _device_name().endswith(devices[0].name)
    return [] if is_chosen else [device.name for device in devices]


def on_device(device: Any) -> contextlib.AbstractContextManager:
    """Compute in this thread on a device."""
    return tf.device(device)


def compiled(function: Callable) -> Callable:
    """Compile a function whose first argument is used up."""
    programs: dict[Any, Callable] = {}

    def call(*args: Any) -> Any:
        # TensorFlow warns of a function that it traces for many shapes, and keeps the
        # device for which it has traced one.
        shapes = tuple(tuple(x.shape) for x in tf.nest.flatten(args))
        key = _device_name(), shapes
        if key not in programs:
            traced = tf.function(function, jit_compile=True, autograph=False)
            programs[key] = traced.get_concrete_function(*args)
        return programs[key](*args)

    return call


def select(is_wanted: Any, *tensors: Any) -> tuple[Any, ...]:
    """Leave out what is not wanted, where shapes may depend on data."""
    return is_wanted, *tensors


def add_at(counts: Any, places: Any, is_counted: Any) -> Any:
    """Add 1 to counts at places."""
    # XLA drops what lies beyond the last place.
    places = tf.where(is_counted, places, tf.size(counts))
    ones = tf.ones_like(places)
    return tf.tensor_scatter_nd_add(counts, places[..., None], ones)
