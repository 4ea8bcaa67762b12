"""Means of a few values, with Student's confidence intervals."""

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
    # Not at the top: a command that needs no interval need not wait for SciPy.
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile * stats.sem(values))
    return Estimate(mean, (mean - half, mean + half))
