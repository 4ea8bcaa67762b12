"""The devices of this process that compute products of vectors."""

import contextlib
from typing import Any

import keras


def local_devices() -> list[Any]:
    """Devices of the backend's default kind that belong to this process.

    Returns:
        The devices; empty where the backend, or who uses it, has chosen one.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # Other processes' devices are no use: their arrays cannot be read here.
        chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
        return [] if chosen else jax.local_devices()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        is_chosen = not keras.ops.zeros(()).device.endswith(devices[0].name)
        return [] if is_chosen else [device.name for device in devices]
    if backend == "torch":
        import torch

        current = keras.ops.zeros(()).device
        if current.type == "cuda" and not current.index:
            return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return []


def on_device(device: Any) -> contextlib.AbstractContextManager:
    """Compute in this thread on one of `local_devices`."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.default_device(device)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.device(device)
    return keras.device(device)
