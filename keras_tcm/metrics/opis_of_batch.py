"""OPIS of one batch, with operations of the backend, for compiled steps."""

from typing import Any

import numpy as np
from keras import ops

from keras_tcm.metrics.batch_pairs import (
    are_pairs,
    batch_similarities,
    positive_pairs,
)
from keras_tcm.ops.integers import as_integer
from keras_tcm.relevance import ClassRelevance, Relevance, SharedLabel

_NUM_THRESHOLDS = 101
# A narrower calibration range is the rounding of collapsed embeddings.
_LEAST_RANGE = 1e-6


def opis_of_batch(
    embeddings: Any,
    labels: Any,
    *,
    relevance: Relevance | None,
    far_range: tuple[float, float],
    calibration_range: tuple[float, float] | None,
    beta: float,
    epsilon: float | None,
    distance: str,
    undefined: float,
) -> Any:
    """Compute OPIS, or epsilon-OPIS, of all pairs of a batch.

    What `evaluate_embeddings` computes on the host, in float32 and from all distances
    at once.

    Args:
        embeddings: Float32 tensor of unit vectors, shape `(n, d)` or `(n, 2, d)`.
        labels: Shape `(n,)`, or what `relevance` compares, `(n, ...)`.
        relevance: As in `OPIS`, like all that follow.
        far_range: See `relevance`.
        calibration_range: See `relevance`.
        beta: See `relevance`.
        epsilon: See `relevance`.
        distance: See `relevance`.
        undefined: What to return where the pairs do not determine the value.

    Returns:
        A float32 scalar.
    """
    positive = positive_pairs(labels, relevance)
    distances = ops.maximum(1.0 - batch_similarities(embeddings), 0.0)
    if distance == "euclidean":
        distances = ops.sqrt(2.0 * distances)
    is_pair = are_pairs(embeddings)
    is_negative = ops.logical_not(positive) & is_pair
    is_counted = is_negative
    if len(embeddings.shape) == 2:
        samples = ops.arange(ops.shape(distances)[0], dtype="int32")
        # Each pair once.
        is_counted = is_negative & (samples[:, None] < samples[None, :])
    bounds, is_resolved = _calibration(
        distances, is_counted, far_range, calibration_range
    )
    positives = ops.cast(positive & is_pair, "float32")
    negatives = ops.cast(is_negative, "float32")
    # A column for each class, with 1 for the samples in it.
    members, is_class = _classes(labels, positive, relevance)

    def count(accepted: Any) -> tuple[Any, Any]:
        """Accepted positive and negative pairs of each class."""
        num_negatives = ops.matmul(ops.sum(accepted * negatives, axis=1), members)
        if isinstance(relevance, SharedLabel):
            # Both ends of a positive pair must be in the class.
            inside = members * ops.matmul(accepted * positives, members)
            return ops.sum(inside, axis=0), num_negatives
        by_sample = ops.sum(accepted * positives, axis=1)
        return ops.matmul(by_sample, members), num_negatives

    num_positives, num_negatives = count(ops.ones_like(distances))
    has_pairs = (num_positives > 0) & (num_negatives > 0)
    is_class = is_class * ops.cast(has_pairs, "float32")

    def utility(threshold: Any) -> Any:
        accepted = count(ops.cast(distances <= threshold, "float32"))
        sensitivity = accepted[0] / ops.maximum(num_positives, 1.0)
        specificity = 1.0 - accepted[1] / ops.maximum(num_negatives, 1.0)
        weighted = beta**2 * specificity + sensitivity
        product = (1.0 + beta**2) * specificity * sensitivity
        return product / ops.where(weighted > 0, weighted, 1.0)

    low, high = bounds
    grid = np.linspace(0.0, 1.0, _NUM_THRESHOLDS, dtype=np.float32)
    curves = ops.map(utility, low + (high - low) * ops.convert_to_tensor(grid))
    if epsilon is None:
        squares = _squared_deviations(curves, is_class)
    else:
        squares = _squared_gap(curves, is_class, epsilon)
    is_defined = is_resolved & (ops.sum(is_class) >= 2)
    return ops.where(is_defined, _mean_over_range(squares), undefined)


def _calibration(
    distances: Any,
    is_counted: Any,
    far_range: tuple[float, float],
    calibration_range: tuple[float, float] | None,
) -> tuple[tuple[Any, Any], Any]:
    """Smallest and largest threshold, and whether the pairs determine them."""
    if calibration_range is not None:
        low, high = (ops.convert_to_tensor(x, "float32") for x in calibration_range)
        return (low, high), high > low
    # No distance exceeds 2.
    ordered = ops.sort(ops.reshape(ops.where(is_counted, distances, 4.0), (-1,)))
    num_pairs = ops.sum(ops.cast(is_counted, "int32"))
    last = ops.maximum(num_pairs - 1, as_integer(0))

    def quantile(share: float) -> Any:
        place = share * ops.cast(last, "float32")
        below = ops.cast(ops.floor(place), "int32")
        lower = ops.take(ordered, ops.minimum(below, last))
        upper = ops.take(ordered, ops.minimum(below + 1, last))
        return lower + (place - ops.cast(below, "float32")) * (upper - lower)

    low, high = quantile(far_range[0]), quantile(far_range[1])
    is_resolved = far_range[0] * ops.cast(num_pairs, "float32") >= 1.0
    return (low, high), is_resolved & (high - low > _LEAST_RANGE)


def _classes(
    labels: Any, positive: Any, relevance: Relevance | None
) -> tuple[Any, Any]:
    """The samples of each class, shape `(n, c)`, and which columns count, `(c,)`."""
    if isinstance(relevance, SharedLabel):
        members = ops.cast(ops.cast(labels, "float32") > 0, "float32")
        return members, ops.ones_like(members[0])
    same = positive
    if isinstance(relevance, ClassRelevance):
        same = positive_pairs(labels, None)
    # A class has a column for each of its samples: the first one counts.
    members = ops.cast(same, "float32")
    is_first = ops.sum(ops.tril(members), axis=1) == 1
    return members, ops.cast(is_first, "float32")


def _mean_over_range(curve: Any) -> Any:
    """Mean of an evenly sampled curve by the trapezoid rule, over the first axis."""
    weights = np.ones(_NUM_THRESHOLDS, np.float32)
    weights[[0, -1]] = 0.5
    return ops.tensordot(ops.convert_to_tensor(weights / weights.sum()), curve, 1)


def _squared_deviations(curves: Any, is_class: Any) -> Any:
    """Variance of the utility over the classes, shape `(k,)`."""
    weights = is_class / ops.maximum(ops.sum(is_class), 1.0)
    mean = ops.matmul(curves, weights)
    return ops.matmul(ops.square(curves - mean[:, None]), weights)


def _squared_gap(curves: Any, is_class: Any, epsilon: float) -> Any:
    """Squared gap between the worst classes and the others, shape `(k,)`."""
    num_worst = ops.floor(epsilon * ops.sum(is_class) + 1e-4)
    num_worst = ops.maximum(num_worst, 1.0)
    # No utility exceeds 1: columns that do not count come last.
    means = ops.where(is_class > 0, _mean_over_range(curves), 2.0)
    columns = ops.arange(ops.shape(means)[0], dtype="int32")
    is_tied = means[:, None] == means[None, :]
    is_before = (means[:, None] < means[None, :]) | (
        is_tied & (columns[:, None] < columns[None, :])
    )
    rank = ops.matmul(is_class, ops.cast(is_before, "float32"))
    worst = is_class * ops.cast(rank < num_worst, "float32")
    rest = is_class - worst
    weights = worst / num_worst - rest / ops.maximum(ops.sum(rest), 1.0)
    return ops.square(ops.matmul(curves, weights))
