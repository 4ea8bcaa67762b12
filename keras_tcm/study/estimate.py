"""Means of a few values, with Student's confidence intervals."""

import math
from collections.abc import Sequence

import numpy as np

from keras_tcm.evaluation import CONFIDENCE, Estimate


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Estimate the expected value of independent, about normal values.

    Args:
        values: At least one.

    Returns:
        Their mean with its 95% interval by Student's t distribution.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = student_t_quantile((1.0 + CONFIDENCE) / 2.0, len(values) - 1) * error
    return Estimate(mean, (mean - half, mean + half))


def student_t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution.

    For whole degrees of freedom the distribution function is a finite sum of powers of
    sine and cosine of `arctan(t / sqrt(degrees))`; it is inverted by bisection.

    Args:
        probability: In [0.5, 1).
        degrees: Degrees of freedom, at least 1.

    Returns:
        The value that a variable with this distribution does not exceed with that
        probability.

    Reference:
        - Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4
    """
    low, high = 0.0, math.pi / 2
    middle = (low + high) / 2
    while low < middle < high:
        if 0.5 + 0.5 * _central_probability(middle, degrees) < probability:
            low = middle
        else:
            high = middle
        middle = (low + high) / 2
    return math.sqrt(degrees) * math.tan(middle)


def _central_probability(angle: float, degrees: int) -> float:
    """Probability that |t| is at most `sqrt(degrees) * tan(angle)`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = 0.0
    for power in range(1 + is_odd, degrees, 2):
        total += term
        term *= power / (power + 1) * cosine**2
    return 2.0 / math.pi * (angle + sine * total) if is_odd else sine * total
