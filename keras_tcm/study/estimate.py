"""Means of a few values, with Student's confidence intervals."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from scipy import stats

# Of all intervals of a study and of a comparison.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean, and the interval that holds the expected value.

    Attributes:
        value: The mean.
        interval: Lower and upper limit; `None` where one value tells no spread.
    """

    value: float
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and all of it lies on one side of zero."""
        if self.interval is None:
            return False
        return self.interval[0] > 0 or self.interval[1] < 0

    def map(self, function: Callable[[float], float]) -> Self:
        """Apply an increasing function to the mean and to the limits."""
        low_high = self.interval and (
            function(self.interval[0]),
            function(self.interval[1]),
        )
        return type(self)(function(self.value), low_high)


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
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile * stats.sem(values))
    return Estimate(mean, (mean - half, mean + half))
