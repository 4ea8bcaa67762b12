"""Which thresholds keep a promise: pure functions of errors by class (NumPy)."""

import math

import numpy as np

from keras_tcm.evaluation import ClassErrors

HOLDS = "holds"
BROKEN = "broken"
UNKNOWN = "too few classes to tell"


def kept_for_population(
    errors: ClassErrors, target: float, confidence: float
) -> np.ndarray:
    """Whether the rate over other classes is at most the target, at each threshold.

    The loosest such threshold (the strictest, for FRR) exceeds the target in at most
    `1 - confidence` of draws of classes: the rate is monotone, so that the choice can
    only be wrong if the upper limit is too low where the rate over other classes
    equals the target.

    Args:
        errors: Errors by class.
        target: The target, in (0, 1).
        confidence: Probability with which it is kept, in (0.5, 1).

    Returns:
        Booleans of shape `(T,)`.
    """
    return errors.upper_limits(confidence) <= target


def kept_for_classes(
    errors: ClassErrors, target: float, confidence: float, class_share: float
) -> np.ndarray:
    """Whether all but few of the classes keep the target, at each threshold.

    Sort the classes by the threshold at which each begins to exceed the target. The
    share of other classes that exceed it at the `k`-th strictest of `G` of these is
    `Beta(k, G + 1 - k)`, if classes are exchangeable. It is at most `1 - class_share`
    with probability `P(Binomial(G, 1 - class_share) >= k)`.

    Where classes are compared with each other, the partners of a class are a sample
    too, and all rates are too low together if it lacks those that many are near to. So
    they are raised to the upper limit of what the partners contribute, half of the
    standard error of the rate in all. Both errors then share `1 - confidence`.

    Args:
        errors: Errors by class.
        target: The target, in (0, 1).
        confidence: Probability with which the share is kept, in (0.5, 1).
        class_share: Share of other classes whose own rate is at most the target.

    Returns:
        Booleans of shape `(T,)`: whether fewer than `k` classes exceed the target, for
        the largest `k` with a probability of at least `confidence`. None are true if
        there is no such `k`.
    """
    rates = errors.per_class
    if errors.classes_per_pair == 2:
        confidence = (1.0 + confidence) / 2.0
        rates = _raised(errors, confidence)
    rank = class_rank(len(errors.pairs), confidence, class_share)
    return (rates > target).sum(axis=0) < rank


def _raised(errors: ClassErrors, confidence: float) -> np.ndarray:
    """Rates of the classes at the upper limit of what their partners contribute."""
    rest = np.maximum(1.0 - errors.relative_errors(confidence) / 2.0, 0.0)
    # Where nothing is accepted, no class exceeds anything.
    scale = np.where(errors.rates > 0, rest, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors.errors > 0, errors.per_class / scale, 0.0)


def class_rank(num_classes: int, confidence: float, class_share: float) -> int:
    """The largest `k` of `kept_for_classes`, or 0 if there is none."""
    from scipy import stats

    ranks = np.arange(1, num_classes + 1)
    probabilities = stats.binom.sf(ranks - 1, num_classes, 1.0 - class_share)
    return int((probabilities >= confidence).sum())


def classes_needed_by_each(
    errors: ClassErrors, confidence: float, class_share: float
) -> int:
    """Number of classes without which `kept_for_classes` is never true."""
    if errors.classes_per_pair == 2:
        confidence = (1.0 + confidence) / 2.0
    return math.ceil(math.log(1.0 - confidence) / math.log(class_share))


def classes_needed(errors: ClassErrors, target: float, confidence: float) -> int:
    """Number of classes of this kind that would bear the target, about.

    With so many, the upper limit of a rate of half the target is the target. It is
    extrapolated from the threshold whose rate is nearest to that, with an error that
    falls with the root of the number of classes.

    Args:
        errors: Errors by class.
        target: The target, in (0, 1).
        confidence: Probability with which it is kept, in (0.5, 1).
    """
    classes_per_trial = errors.num_classes / errors.num_trials
    without_errors = classes_per_trial * math.log(1.0 - confidence)
    fewest = math.ceil(without_errors / math.log(1.0 - target))
    has_errors = np.isfinite(errors.relative_errors(confidence))
    if not has_errors.any():
        return fewest
    places = np.flatnonzero(has_errors)
    distances = np.abs(np.log(2.0 * errors.rates[places] / target))
    place = places[np.argmin(distances)]
    spread = errors.relative_errors(confidence)[place] / 0.5
    by_spread = math.ceil(errors.num_classes * spread**2)
    # What is more than there is: the data have just failed to bear the target.
    return max(by_spread, errors.num_classes + 1)


def verdict(
    errors: ClassErrors, target: float, confidence: float, class_share: float | None
) -> str:
    """Whether errors at one threshold, of other data, say that a promise is kept.

    Args:
        errors: Errors by class, at one threshold.
        target: What was promised.
        confidence: Probability with which the verdict is right, in (0.5, 1).
        class_share: Share of classes that keep the target, if that was promised.

    Returns:
        `HOLDS`, `BROKEN` or `UNKNOWN`.
    """
    if class_share is None:
        high = float(errors.upper_limits(confidence)[0])
        low = float(errors.lower_limits(confidence)[0])
        most = target
    else:
        from scipy import stats

        exceeded = int((errors.per_class[:, 0] > target).sum())
        counted = stats.binomtest(exceeded, len(errors.pairs))
        interval = counted.proportion_ci(2.0 * confidence - 1.0, method="exact")
        low, high, most = interval.low, interval.high, 1.0 - class_share
    if high <= most:
        return HOLDS
    return BROKEN if low > most else UNKNOWN
