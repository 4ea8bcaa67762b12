"""Ranks with a slope."""

from typing import Any

from keras import ops


def count_nearer(similarities: Any, counted: Any, temperature: float) -> Any:
    """Count, for each partner, the partners that are nearer to the anchor.

    Args:
        similarities: Tensor of shape `(a, n)`.
        counted: Weights with which partners count, shape `(a, n, t)`.
        temperature: Width of the sigmoid that stands in for the step function.

    Returns:
        Tensor of shape `(a, n, t)`; no partner counts for itself.
    """
    # is_nearer[q, i, j] is close to 1 where j is nearer to anchor q than i is.
    is_nearer = ops.sigmoid(
        (similarities[:, None, :] - similarities[:, :, None]) / temperature
    )
    # Every partner is as near as itself: sigmoid(0) = 1/2.
    return ops.matmul(is_nearer, counted) - 0.5 * counted
