"""How unequal the error rates of classes, or groups of them, are at one threshold.

Pure functions of rates, as biometrics reports them. NIST calls FAR the false match
rate (FMR) and FRR the false non-match rate (FNMR), at one threshold for all.

Ratios have no value where a rate is 0. There, and nowhere else, a rate of 0 stands for
half an error, `0.5 / pairs`, but never for more than the largest of the rates; where
all are 0, they are equal.
"""

import dataclasses
from typing import Any, Self

import numpy as np

from keras_tcm.ops.curves import num_worst_classes
from keras_tcm.validation import check_number

# The share of the classes whose rates `Inequity` tells as the worst.
_WORST_SHARE = 0.1


def max_to_min(rates: Any, pairs: Any) -> float:
    """Largest rate over the smallest.

    Args:
        rates: Rates in [0, 1], shape `(n,)`, at least two.
        pairs: Number of pairs behind each, above 0, shape `(n,)`: a rate of 0 stands
            for half an error, but not for more than the largest rate.

    Returns:
        At least 1, which means equal.

    Raises:
        ValueError: If shapes do not match, or a value is out of range.

    Example:

    >>> keras_tcm.evaluation.max_to_min([0.01, 0.04, 0.02], [1000, 1000, 1000])
    4.0

    Reference:
        - Grother, *Face Recognition Vendor Test part 8: Summarizing Demographic
          Differentials*, [NIST IR 8429](https://doi.org/10.6028/NIST.IR.8429.ipd), 2022
    """
    rates = _without_zeros(rates, pairs)
    return float(rates.max() / rates.min())


def max_to_geometric_mean(rates: Any, pairs: Any) -> float:
    """Largest rate over the geometric mean of all.

    Unlike the smallest rate, the mean does not hang on a single class.

    Args:
        rates: As for `max_to_min`.
        pairs: See above.

    Returns:
        At least 1, which means equal.

    Raises:
        ValueError: If shapes do not match, or a value is out of range.

    Example:

    >>> rates, pairs = [0.01, 0.04, 0.02], [1000, 1000, 1000]
    >>> round(keras_tcm.evaluation.max_to_geometric_mean(rates, pairs), 6)
    2.0

    Reference:
        - Grother, [NIST IR 8429](https://doi.org/10.6028/NIST.IR.8429.ipd), 2022
    """
    rates = _without_zeros(rates, pairs)
    return float(rates.max() / np.exp(np.log(rates).mean()))


def gini_coefficient(rates: Any) -> float:
    """Gini coefficient of rates, corrected for their number.

    ```
    n / (n - 1) * sum_i sum_j |x_i - x_j| / (2 n^2 mean(x))
    ```

    Args:
        rates: Rates in [0, 1], shape `(n,)`, at least two.

    Returns:
        In [0, 1]: 0 if all are equal, or 0, and 1 if all but one are 0.

    Raises:
        ValueError: If a value is out of range, or there is but one.

    Example:

    >>> round(keras_tcm.evaluation.gini_coefficient([0.0, 0.0, 0.3]), 6)
    1.0

    Reference:
        - [Howard et al., 2022](https://arxiv.org/abs/2203.05051)
    """
    rates = np.sort(_check_rates("rates", rates))
    total, size = rates.sum(), len(rates)
    if total == 0.0:
        return 0.0
    # Each rate is the larger of a pair as often as others come before it.
    order = 2.0 * np.arange(size) - (size - 1)
    return float(min(max(order @ rates / ((size - 1) * total), 0.0), 1.0))


def garbe(far: Any, frr: Any, alpha: float = 0.5) -> float:
    """Gini aggregation rate for biometric equitability; lower is better.

    ```
    alpha * gini(far) + (1 - alpha) * gini(frr)
    ```

    Args:
        far: FARs at one threshold, shape `(n,)`, at least two.
        frr: FRRs at the same threshold, shape `(n,)`.
        alpha: Weight of the FARs, in [0, 1]. Defaults to 0.5.

    Returns:
        In [0, 1]; 0 means equal.

    Raises:
        TypeError: If `alpha` is not a number.
        ValueError: If shapes do not match, or a value is out of range.

    Example:

    >>> keras_tcm.evaluation.garbe([0.01, 0.01], [0.2, 0.2])
    0.0

    Reference:
        - [Howard et al., 2022](https://arxiv.org/abs/2203.05051)
    """
    far, frr, alpha = _check_both(far, frr, alpha)
    return alpha * gini_coefficient(far) + (1.0 - alpha) * gini_coefficient(frr)


def fairness_discrepancy_rate(far: Any, frr: Any, alpha: float = 0.5) -> float:
    """Fairness discrepancy rate; higher is better.

    ```
    1 - (alpha * max_ij |far_i - far_j| + (1 - alpha) * max_ij |frr_i - frr_j|)
    ```

    FARs are small where a threshold is of use, so that it hardly moves with them.

    Args:
        far: FARs at one threshold, shape `(n,)`, at least two.
        frr: FRRs at the same threshold, shape `(n,)`.
        alpha: Weight of the FARs, in [0, 1]. Defaults to 0.5.

    Returns:
        In [0, 1]; 1 means equal.

    Raises:
        TypeError: If `alpha` is not a number.
        ValueError: If shapes do not match, or a value is out of range.

    Example:

    >>> far, frr = [0.01, 0.03], [0.2, 0.3]
    >>> round(keras_tcm.evaluation.fairness_discrepancy_rate(far, frr), 6)
    0.94

    Reference:
        - [de Freitas Pereira and Marcel, 2021](https://arxiv.org/abs/2011.02395)
    """
    far, frr, alpha = _check_both(far, frr, alpha)
    return float(1.0 - (alpha * np.ptp(far) + (1.0 - alpha) * np.ptp(frr)))


def mean_of_worst(rates: Any, share: float = _WORST_SHARE) -> float:
    """Mean of the largest rates.

    Args:
        rates: Rates in [0, 1], shape `(n,)`, at least two.
        share: Share of them that are meant, in (0, 1): rounded down, but at least one.
            Defaults to 0.1.

    Raises:
        TypeError: If `share` is not a number.
        ValueError: If a value is out of range, or there is but one.

    Example:

    >>> keras_tcm.evaluation.mean_of_worst([0.0, 0.5, 0.25, 0.125], share=0.5)
    0.375
    """
    rates = np.sort(_check_rates("rates", rates))
    share = check_number("share", share, 0, 1, open_low=True, open_high=True)
    return float(rates[-num_worst_classes(len(rates), share) :].mean())


@dataclasses.dataclass(frozen=True)
class Inequity:
    """How unequal FAR and FRR are over classes, or over groups, at one threshold.

    These describe the classes that were counted. Rates that have been measured on few
    pairs differ by chance alone: equal classes, too, have ratios above 1 and a Gini
    coefficient above 0.

    Attributes:
        far_max_to_min: Largest FAR over the smallest: see `max_to_min`, also for rates
            of 0.
        far_max_to_geometric_mean: Largest FAR over their geometric mean.
        far_gini: Gini coefficient of the FARs, in [0, 1]; 0 means equal.
        far_of_worst_tenth: Mean FAR of the tenth (at least one) that have the largest.
        frr_max_to_min: As above, of the FRRs.
        frr_max_to_geometric_mean: As above, of the FRRs.
        frr_gini: As above, of the FRRs.
        garbe: Mean of both Gini coefficients, in [0, 1]; 0 means equal.
        fairness_discrepancy_rate: 1 less the mean of the largest differences in FAR and
            in FRR, in [0, 1]; 1 means equal.

    Example:

    >>> point = result.operating_point(0.01)
    >>> point.inequity.far_max_to_min >= 1.0
    True
    """

    far_max_to_min: float
    far_max_to_geometric_mean: float
    far_gini: float
    far_of_worst_tenth: float
    frr_max_to_min: float
    frr_max_to_geometric_mean: float
    frr_gini: float
    garbe: float
    fairness_discrepancy_rate: float

    @classmethod
    def of(cls, far: Any, frr: Any, negative_pairs: Any, positive_pairs: Any) -> Self:
        """Measure the inequity of rates at one threshold.

        Args:
            far: FARs in [0, 1], shape `(n,)`, at least two.
            frr: FRRs in [0, 1], shape `(n,)`.
            negative_pairs: Number of pairs behind each FAR, above 0, shape `(n,)`.
            positive_pairs: Number of pairs behind each FRR, likewise.

        Raises:
            ValueError: If shapes do not match, or a value is out of range.

        Example:

        >>> measure = keras_tcm.evaluation.Inequity.of
        >>> rates = measure([0.01, 0.02], [0.1, 0.1], [500, 500], [50, 50])
        >>> rates.far_max_to_min, rates.frr_max_to_min
        (2.0, 1.0)
        """
        return cls(
            far_max_to_min=max_to_min(far, negative_pairs),
            far_max_to_geometric_mean=max_to_geometric_mean(far, negative_pairs),
            far_gini=gini_coefficient(far),
            far_of_worst_tenth=mean_of_worst(far),
            frr_max_to_min=max_to_min(frr, positive_pairs),
            frr_max_to_geometric_mean=max_to_geometric_mean(frr, positive_pairs),
            frr_gini=gini_coefficient(frr),
            garbe=garbe(far, frr),
            fairness_discrepancy_rate=fairness_discrepancy_rate(far, frr),
        )


def _check_rates(name: str, rates: Any) -> np.ndarray:
    values = np.asarray(rates, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"`{name}` must have shape (n,), with at least two rates. "
            f"Received: {name}.shape={values.shape}"
        )
    is_rate = (values >= 0.0) & (values <= 1.0)
    if not is_rate.all():
        raise ValueError(
            f"`{name}` must be rates in [0, 1]. Received: {values[~is_rate][0]}"
        )
    return values


def _check_both(
    far: Any, frr: Any, alpha: float
) -> tuple[np.ndarray, np.ndarray, float]:
    far, frr = _check_rates("far", far), _check_rates("frr", frr)
    if len(far) != len(frr):
        raise ValueError(
            f"`frr` must have one rate for each of `far`, {len(far)}. "
            f"Received: frr.shape={frr.shape}"
        )
    return far, frr, check_number("alpha", alpha, 0, 1)


def _without_zeros(rates: Any, pairs: Any) -> np.ndarray:
    """Rates above 0: those of half an error in place of 0; of equal ones if all are."""
    rates = _check_rates("rates", rates)
    pairs = np.asarray(pairs, np.float64)
    if pairs.shape != rates.shape or not (pairs > 0.0).all():
        raise ValueError(
            f"`pairs` must have one number above 0 for each of `rates`, {len(rates)}. "
            f"Received: pairs={pairs}"
        )
    if not rates.any():
        return np.ones_like(rates)
    return np.where(rates > 0.0, rates, np.minimum(0.5 / pairs, rates.max()))
