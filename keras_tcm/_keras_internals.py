"""All that this package takes from Keras beyond its public API.

Tried with Keras 3.12 to 3.15. `tests/test_keras_internals.py` fails where a version of
Keras has another inside.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def backend_of_started_keras() -> str | None:
    """The backend that Keras is on since it was imported, if it ever was.

    Also after an import that failed, which leaves no `keras` to ask.
    """
    config = sys.modules.get("keras.src.backend.config")
    return None if config is None else config.backend()


def computes_shapes_only() -> bool:
    """Whether Keras calls with made-up values, to see shapes."""
    # Not before Keras is imported: see `backend_of_started_keras`.
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return in_symbolic_scope()


def set_direction(metric: Any, direction: str) -> None:
    """Tell `monitor` with `mode="auto"` which way a metric gets better.

    Args:
        metric: A `keras.metrics.Metric`.
        direction: `"up"` or `"down"`.
    """
    metric._direction = direction


def origin_of(tensor: Any) -> tuple[Any, list[Any]]:
    """The layer whose call made a `keras.KerasTensor`, and what it was called on."""
    layer, place, _ = tensor._keras_history
    return layer, list(layer._inbound_nodes[place].input_tensors)


def random_state(rng: np.random.Generator) -> np.ndarray:
    """A value for the state of a `keras.random.SeedGenerator`: a seed and a counter."""
    return np.array([rng.integers(2**31), 0])


def trains_on_all_ranks(model: Any) -> bool:
    """Whether `fit` wraps a model for the process group of torch, as of Keras 3.16."""
    return hasattr(model, "ddp_model")


def change_metrics_results(
    model: Any, change: Callable[[Callable[[], Any]], Any]
) -> None:
    """Have `fit` and `evaluate` of one model show other results of its metrics.

    Args:
        model: A `keras.Model`.
        change: Given what returns Keras' own results, returns others.
    """
    keras_results = model.get_metrics_result
    model.get_metrics_result = lambda: change(keras_results)


def has_changed_metrics_results(model: Any) -> bool:
    """Whether `change_metrics_results` was called with a model."""
    return "get_metrics_result" in vars(model)
