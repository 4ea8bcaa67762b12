"""Means of a few values, with Student's confidence intervals."""

import math
from collections.abc import Sequence

import numpy as np

from keras_tcm.evaluation import CONFIDENCE, Estimate
from keras_tcm.student import student_quantile


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
    half = student_quantile(CONFIDENCE, len(values) - 1) * error
    return Estimate(mean, (mean - half, mean + half))
