"""Devices that compute pairs, and what `keras.ops` lacks to count them there."""

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import keras

# Where pairs are counted.
DEVICES = ("auto", "host", "backend")


def counts_on_backend(device: str) -> bool:
    """Whether this thread counts pairs on the device that multiplies.

    Args:
        device: One of `DEVICES`: `"auto"` does so on a GPU. On a CPU the kernels of the
            host are faster, and on a TPU nobody has measured what many small additions
            to a table cost.
    """
    return device == "backend" or (device == "auto" and _backend().is_gpu())


def free_bytes() -> int | None:
    """Free memory of the device of this thread, or `None` where it does not tell."""
    return _backend().free_bytes()


def local_devices() -> list[Any]:
    """Devices of the backend's default kind that belong to this process.

    Returns:
        The devices; empty where the backend, or who uses it, has chosen one.
    """
    return _backend().local_devices()


def on_device(device: Any) -> contextlib.AbstractContextManager:
    """Compute in this thread on one of `local_devices`."""
    return _backend().on_device(device)


def compiled(function: Callable) -> Callable:
    """Compile a function, once for each shape, where the backend's loops need it.

    Args:
        function: A pure function of a tree of tensors, whose first argument is not to
            be used any more, and other tensors.
    """
    return _backend().compiled(function)


def select(is_wanted: Any, *tensors: Any) -> tuple[Any, ...]:
    """Leave out what is not wanted, where shapes may depend on data.

    Args:
        is_wanted: Booleans of shape `(n, m)`.
        tensors: Tensors that broadcast to the same shape.

    Returns:
        What is still to be looked at, and the tensors, all of one shape or broadcasting
        to it.
    """
    return _backend().select(is_wanted, *tensors)


def add_at(counts: Any, places: Any, is_counted: Any) -> Any:
    """Add 1 to counts at places, each as often as it is there.

    Args:
        counts: Integers of shape `(n,)`, which are not to be used any more.
        places: Integers of any shape.
        is_counted: Booleans of the same shape: the others are passed over.
    """
    return _backend().add_at(counts, places, is_counted)


def _backend() -> Any:
    return importlib.import_module(f"{__name__}.{keras.backend.backend()}_backend")
