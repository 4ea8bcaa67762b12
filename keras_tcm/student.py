"""Quantiles of Student's t distribution."""


def student_quantile(confidence: float, degrees: int) -> float:
    """Half width of a two-sided interval of that confidence, in standard errors.

    Args:
        confidence: Probability inside the interval, in (0, 1).
        degrees: Degrees of freedom, at least 1.
    """
    # Not at the top: who imports keras_tcm need not wait for SciPy.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))
