"""The two distance measures, as functions of the cosine distance."""

import numpy as np

DISTANCES = ("cosine", "euclidean")


def from_cosine(values: np.ndarray | float, distance: str) -> np.ndarray:
    """Convert cosine distances `1 - s` to the named measure."""
    values = np.asarray(values, np.float64)
    return np.sqrt(2.0 * values) if distance == "euclidean" else values


def to_cosine(values: np.ndarray | float, distance: str) -> np.ndarray:
    """Convert distances of the named measure to cosine distances."""
    values = np.asarray(values, np.float64)
    return np.square(values) / 2.0 if distance == "euclidean" else values
