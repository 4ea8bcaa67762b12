"""Errors of an evaluation that compared a sample of the pairs."""

import dataclasses
import math

import numpy as np

from keras_tcm.evaluation._counting.negative_pairs import CountedNegatives
from keras_tcm.evaluation._counting.sampled_pairs import NUM_FOLDS, SampledNegatives
from keras_tcm.evaluation._walk.tally import interpolate
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import NUM_STEPS, TIE_STEPS, Histogram
from keras_tcm.ops.curves import epsilon_opis, opis_per_class, utility_curves

# Around a threshold, so many positive pairs tell how densely they lie.
_MIN_POSITIVES = 100


@dataclasses.dataclass(frozen=True)
class SamplingError:
    """What leaving out parts of the sample tells about its errors.

    Attributes:
        opis_bias: Expected excess of each class's contribution to OPIS, since the
            classes' errors look like inconsistency.
        epsilon_opis_bias: The same for epsilon-OPIS.
        scores: Standard errors of OPIS, epsilon-OPIS and the equal error rate.
        points: Standard errors of each operating point.
        at_thresholds: Standard errors at each threshold that was asked for.
        query_share: Share of the queries whose neighbours are ranked.
    """

    opis_bias: np.ndarray
    epsilon_opis_bias: float
    scores: dict[str, float]
    points: list[dict[str, float]]
    at_thresholds: list[dict[str, float]]
    query_share: float


def sampling_error(
    criteria: Criteria,
    thresholds: Thresholds,
    positive: Histogram,
    positives_at_edges: np.ndarray,
    num_positives: np.ndarray,
    negatives: SampledNegatives,
    counted: CountedNegatives,
) -> SamplingError:
    """Estimate errors by the jackknife that leaves out one fold at a time.

    Pairs that share a sample are not independent, but folds of samples nearly are.
    With `g` folds, `(g - 1) / g` times the sum of the squared deviations of the
    estimates without each fold is the variance, and `g - 1` times their mean
    deviation from the estimate is the bias. Both shrink with the share of the samples
    that has not been drawn.

    Args:
        criteria: What is measured.
        thresholds: The thresholds chosen from the whole sample.
        positive: The positive pairs by distance.
        positives_at_edges: Positive pairs of each class up to each of
            `counted.tally.edges`.
        num_positives: Positive pairs of each class.
        negatives: The sampled negative pairs.
        counted: What has been counted of them.

    Reference:
        - Wolter, *Introduction to Variance Estimation*, chapter 4
    """

    def scores(chosen: Thresholds, far: np.ndarray) -> tuple[np.ndarray, list[float]]:
        # Positive pairs are interpolated too: counting them at the thresholds of each
        # replicate would cost more than it tells.
        cuts = chosen.cuts[: criteria.num_thresholds]
        accepted = interpolate(positives, edges, cuts)
        one = np.ones(len(far))
        utility = utility_curves(accepted, num_positives, far, one, criteria.beta)
        epsilon = epsilon_opis(utility, criteria.epsilon)
        return opis_per_class(utility), [epsilon, chosen.eer]

    edges = counted.tally.edges
    positives = np.diff(positives_at_edges, axis=1, prepend=0)
    calibration = slice(None, criteria.num_thresholds)
    whole_far = negatives.accepted(counted, thresholds.cuts[calibration])
    whole_far /= negatives.num_per_class[:, None]
    whole_opis, whole_scores = scores(thresholds, whole_far)

    mean_opis = np.zeros_like(whole_opis)
    replicates, point_replicates, far_replicates = [], [], []
    at_cuts = criteria.at_cuts
    for fold in range(NUM_FOLDS):
        negative = negatives.histogram_without(fold, counted)
        chosen = criteria.thresholds(positive, negative)
        far = negatives.shares_without(fold, counted, chosen.cuts[calibration])
        opis, others = scores(chosen, far)
        mean_opis += opis / NUM_FOLDS
        replicates.append([opis.mean(), *others])
        point_replicates.append(
            [
                _point(criteria, negative, point, replicate)
                for point, replicate in zip(
                    thresholds.points, chosen.points, strict=True
                )
            ]
        )
        far_replicates.append(negative.share_up_to(at_cuts))
    unsampled = 1.0 - negatives.share
    scale = unsampled * (NUM_FOLDS - 1)
    errors = np.sqrt(scale * np.var(replicates, axis=0))
    # The shape is given for want of any FAR target.
    of_points = np.reshape(point_replicates, (NUM_FOLDS, len(thresholds.points), 3))
    point_errors = np.sqrt(scale * np.var(of_points, axis=0))
    far_errors = np.sqrt(scale * np.var(far_replicates, axis=0))
    frr_errors = [
        np.nan if point is None else _frr_error(positive, point, error)
        for point, error in zip(thresholds.points, point_errors[:, 2], strict=True)
    ]
    mean_epsilon = np.mean(replicates, axis=0)[1]
    return SamplingError(
        opis_bias=scale * (mean_opis - whole_opis),
        epsilon_opis_bias=float(scale * (mean_epsilon - whole_scores[0])),
        scores=dict(zip(("opis", "epsilon_opis", "eer"), errors.tolist(), strict=True)),
        points=[
            {"threshold": threshold, "far": far, "frr": frr}
            for (threshold, far, _), frr in zip(
                point_errors.tolist(), frr_errors, strict=True
            )
        ],
        # All positive pairs are counted.
        at_thresholds=[{"far": far, "frr": 0.0} for far in far_errors.tolist()],
        query_share=negatives.query_share,
    )


def _point(
    criteria: Criteria,
    negative: Histogram,
    point: int | None,
    replicate: int | None,
) -> tuple[float, float, float]:
    """Threshold and FAR of an operating point without a fold, and steps of the former.

    The threshold follows the pairs that are left; the FAR is that of the threshold of
    the whole sample.
    """
    if point is None or replicate is None:
        return np.nan, np.nan, np.nan
    far = float(negative.share_up_to(point + TIE_STEPS))
    return criteria.distance_of(replicate), far, replicate


def _frr_error(positive: Histogram, point: int, error: float) -> float:
    """Standard error of the FRR at a threshold that has a standard error itself.

    All positive pairs are counted; what is not known is how many of them lie between
    the threshold and that of all pairs. They come in whole numbers: where they are
    few, those without a fold tell nothing. As they lie about the threshold like a
    Poisson process with `expected` of them in a standard error, and the error is
    normal, that number has a variance of `expected^2 + expected * sqrt(2 / pi)`.

    Args:
        positive: The positive pairs by distance.
        point: The threshold in steps.
        error: Its standard error in steps.
    """

    def count(first: int, last: int) -> float:
        shares = positive.share_up_to(last) - positive.share_up_to(first - 1)
        return float(shares) * positive.size

    half = max(int(2 * error), 1)
    while count(point - half, point + half) < _MIN_POSITIVES and half < NUM_STEPS:
        half *= 2
    first, last = max(point - half, 0), min(point + half, NUM_STEPS - 1)
    expected = count(first, last) / (last - first + 1) * error
    variance = expected**2 + expected * math.sqrt(2.0 / math.pi)
    return math.sqrt(variance) / positive.size
