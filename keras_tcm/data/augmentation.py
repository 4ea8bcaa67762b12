"""Augmentation of a batch, the same for the same source of randomness."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_tcm._keras_internals import random_state


def to_numpy(values: Any) -> np.ndarray:
    """Return an array, a backend tensor or a sequence as a NumPy array."""
    if keras.ops.is_tensor(values):
        return keras.ops.convert_to_numpy(values)
    return np.asarray(values)


def apply_augmentation(
    augment: Callable[..., Any], x: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Augment a batch.

    Args:
        augment: Keras layer, or callable of the batch and, where it has a parameter
            of that name, of `rng`.
        x: Samples, shape `(n, ...)`.
        rng: Source of randomness.

    Returns:
        Array `(n, ...)`.

    Raises:
        ValueError: If the result has another number of samples.
    """
    if isinstance(augment, keras.Layer):
        output = _call_layer(augment, x, rng)
    elif _takes_rng(augment):
        output = augment(x, rng=rng)
    else:
        output = augment(x)
    augmented = to_numpy(output)
    if augmented.ndim == 0 or len(augmented) != len(x):
        raise ValueError(
            f"`augment` must return as many samples as it gets, {len(x)}. "
            f"Received: {type(output).__name__} of shape {augmented.shape}"
        )
    return augmented


def _call_layer(layer: keras.Layer, x: np.ndarray, rng: np.random.Generator) -> Any:
    """Call a layer with random seeds from `rng` and leave its own state alone.

    Its own state would depend on which worker has come first.
    """
    weights = {id(weight) for weight in layer.weights}
    seeds = [seed for seed in layer.variables if id(seed) not in weights]
    values = [random_state(rng) for _ in seeds]
    with keras.StatelessScope(
        list(zip(seeds, values, strict=True)), initialize_variables=False
    ):
        return layer(x, training=True)


def _takes_rng(augment: Callable[..., Any]) -> bool:
    try:
        return "rng" in inspect.signature(augment).parameters
    except ValueError:  # Some callables written in C do not tell.
        return False
