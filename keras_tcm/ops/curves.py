"""Per-class utility curves from counts, and OPIS from curves (NumPy, float64).

Counts of pairs exceed what float32 holds exactly, so this part does not run on the
backend.
"""

import numpy as np


def utility_curves(
    positives_accepted: np.ndarray,
    num_positives: np.ndarray,
    negatives_accepted: np.ndarray,
    num_negatives: np.ndarray,
    beta: float = 1.0,
) -> np.ndarray:
    """Utility (F-beta of specificity and sensitivity) of each class.

    Args:
        positives_accepted: Positive pairs of each class that each threshold
            accepts, shape `(c, k)`.
        num_positives: Positive pairs of each class, shape `(c,)`, all above 0.
        negatives_accepted: The same for negative pairs.
        num_negatives: The same for negative pairs.
        beta: Weight of the sensitivity; above 1 favours it. Defaults to 1.0.

    Returns:
        Float64 array of shape `(c, k)` with values in [0, 1]; 0 where both rates
        are 0.

    Example:

    >>> utility_curves(np.array([[1]]), np.array([2]), np.array([[0]]), np.array([4]))
    array([[0.66666667]])
    """
    return f_beta(
        positives_accepted / num_positives[:, None],
        1.0 - negatives_accepted / num_negatives[:, None],
        beta,
    )


def f_beta(sensitivity: np.ndarray, specificity: np.ndarray, beta: float) -> np.ndarray:
    """Weighted harmonic mean of two rates.

    Args:
        sensitivity: Shares of accepted positive pairs.
        specificity: Shares of rejected negative pairs, of the same shape.
        beta: Weight of the sensitivity; above 1 favours it.

    Returns:
        Float64 array of the same shape with values in [0, 1]; 0 where both are 0.

    Example:

    >>> f_beta(np.array([0.5]), np.array([1.0]), 1.0)
    array([0.66666667])
    """
    numerator = (1.0 + beta**2) * specificity * sensitivity
    denominator = beta**2 * specificity + sensitivity
    return np.divide(
        numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0
    )


def mean_over_range(curves: np.ndarray) -> np.ndarray:
    """Mean of evenly sampled curves by the trapezoid rule, over the last axis."""
    weights = np.ones(curves.shape[-1])
    weights[[0, -1]] = 0.5
    return curves @ (weights / weights.sum())


def opis_per_class(utility: np.ndarray) -> np.ndarray:
    """Mean squared deviation of each class's utility from the mean class.

    Args:
        utility: Utility curves at evenly spaced thresholds, shape `(c, k)`.

    Returns:
        Float64 array of shape `(c,)`; its mean is OPIS.

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """
    return mean_over_range(np.square(utility - utility.mean(axis=0)))


def num_worst_classes(num_classes: int, epsilon: float) -> int:
    """Number of classes in the worst `epsilon` share: rounded down, at least one."""
    # The small term keeps 0.29 * 100 from being rounded down to 28.
    return max(1, int(epsilon * num_classes + 1e-9))


def epsilon_opis(utility: np.ndarray, epsilon: float = 0.1) -> float:
    """Mean squared gap between the worst classes and the others.

    Args:
        utility: Utility curves at evenly spaced thresholds, shape `(c, k)` with at
            least two classes.
        epsilon: Share of classes that count as worst, in (0, 1), rounded down to a
            whole number of classes but at least one. Defaults to 0.1.

    Returns:
        The mean over the range of the squared difference between the mean utility
        of the worst classes (lowest mean utility over the range) and of the rest.

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """
    num_worst = num_worst_classes(len(utility), epsilon)
    order = np.argsort(mean_over_range(utility), kind="stable")
    worst = utility[order[:num_worst]].mean(axis=0)
    rest = utility[order[num_worst:]].mean(axis=0)
    return float(mean_over_range(np.square(worst - rest)))
