"""From distances to probabilities that two samples are of one class."""

import dataclasses
import math
from typing import Any, Self

import numpy as np

# Classes are split into so many parts to choose the kind of curve.
_FOLDS = 5
_KINDS = ("logistic", "isotonic")
_NEWTON_STEPS = 50
# Width of a step of the curve, about the resolution of distances.
_STEP = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """Log-likelihood ratios of distances: how much more likely a positive pair is.

    A curve through points, linear between them and constant beyond: nothing is
    extrapolated. It is non-increasing. Two kinds are fitted, a logistic curve (linear
    in the distance) and an isotonic one (pool adjacent violators), and the one with
    the lower Cllr over classes that were left out is kept.

    Cllr is the mean cost in bits of the likelihood ratios, with positive and negative
    pairs weighing the same: 0 for perfect ones, 1 for a constant. What it exceeds its
    minimum by, that of the best monotone curve on the same pairs, is lost to the
    calibration.

    Attributes:
        kind: `"logistic"` or `"isotonic"`.
        distances: Where the curve is given, increasing, shape `(K,)`.
        log_ratios: Natural logarithms of the ratios there, non-increasing.
        cllr: Cllr over classes that the curve was not fitted on, in bits.
        min_cllr: Cllr of the best monotone curve.

    Reference:
        - Brümmer and du Preez, *Application-independent evaluation of speaker
          detection*, 2006
    """

    kind: str
    distances: np.ndarray
    log_ratios: np.ndarray
    cllr: float
    min_cllr: float

    @classmethod
    def fit(
        cls,
        distances: np.ndarray,
        positive: np.ndarray,
        negative: np.ndarray,
        end: float | None = None,
    ) -> Self:
        """Fit a curve to counts by class and distance.

        Args:
            distances: The distance that stands for each bin, increasing, shape `(B,)`.
            positive: Positive pairs of each class in each bin, shape `(C, B)`, or with
                `end` `(C, B + 1)`.
            negative: Negative pairs of each class, likewise.
            end: Where the last bin ends, if the counts have one more column: the pairs
                somewhere beyond, which share one ratio and say nothing of its slope.
        """
        positive, negative = positive.astype(np.float64), negative.astype(np.float64)
        fold = np.arange(len(positive)) % _FOLDS
        costs = dict.fromkeys(_KINDS, 0.0)
        used = 0
        for number in range(_FOLDS):
            out = fold == number
            held = positive[out].sum(axis=0), negative[out].sum(axis=0)
            rest = positive[~out].sum(axis=0), negative[~out].sum(axis=0)
            if min(part.sum() for part in (*held, *rest)) == 0:
                continue
            used += 1
            for kind in _KINDS:
                costs[kind] += cllr(_fit(kind, distances, *rest), *held)
        kind = min(costs, key=lambda name: costs[name])
        totals = positive.sum(axis=0), negative.sum(axis=0)
        log_ratios = _fit(kind, distances, *totals)
        best = _isotonic(*totals, smallest=0.0)
        curve = distances, log_ratios
        if end is not None:
            # A step: no pair before the end has the ratio of those beyond.
            curve = (
                np.concatenate([distances, [end, end + _STEP]]),
                np.insert(log_ratios, -1, log_ratios[-2]),
            )
        return cls(
            kind=kind,
            distances=curve[0],
            log_ratios=curve[1],
            cllr=costs[kind] / used if used else cllr(log_ratios, *totals),
            min_cllr=cllr(best, *totals),
        )

    def log_ratio(self, distance: Any) -> np.ndarray:
        """Log-likelihood ratio of distances of any shape."""
        return np.interp(distance, self.distances, self.log_ratios)

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as JSON-ready values."""
        values = dataclasses.asdict(self)
        return values | {
            "distances": self.distances.tolist(),
            "log_ratios": self.log_ratios.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a curve of what `to_dict` returned."""
        return cls(
            kind=values["kind"],
            distances=np.asarray(values["distances"], np.float64),
            log_ratios=np.asarray(values["log_ratios"], np.float64),
            cllr=values["cllr"],
            min_cllr=values["min_cllr"],
        )


def cllr(log_ratios: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean cost of log-likelihood ratios in bits: see `ScoreCalibration`.

    Args:
        log_ratios: Of each bin, natural logarithms, shape `(B,)`; may be infinite.
        positive: Positive pairs in each bin, shape `(B,)`, some in all.
        negative: Negative pairs, likewise.
    """
    costs = np.logaddexp(0.0, -log_ratios), np.logaddexp(0.0, log_ratios)
    means = [
        # No pair in a bin costs nothing, whatever the ratio.
        np.dot(np.where(counts > 0, cost, 0.0), counts) / counts.sum()
        for cost, counts in zip(costs, (positive, negative), strict=True)
    ]
    return float(sum(means) / 2.0 / np.log(2.0))


def _fit(
    kind: str, distances: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    if kind == "isotonic":
        return _isotonic(positive, negative, smallest=1.0)
    return _logistic(distances, positive, negative)


def _isotonic(
    positive: np.ndarray, negative: np.ndarray, smallest: float
) -> np.ndarray:
    """Log-ratios of the best non-increasing curve.

    Args:
        positive: Positive pairs in each bin.
        negative: Negative pairs in each bin.
        smallest: Pairs of either kind that a stretch of the curve has at least, so that
            none is taken for certain.
    """
    from scipy import optimize

    shares = positive / positive.sum(), negative / negative.sum()
    weights = shares[0] + shares[1]
    found = weights > 0
    fit = optimize.isotonic_regression(
        shares[0][found] / weights[found], weights=weights[found], increasing=False
    )
    ratios = np.full(len(positive), np.nan)
    for start, stop in zip(fit.blocks[:-1], fit.blocks[1:], strict=True):
        places = np.flatnonzero(found)[start:stop]
        counts = [
            max(pairs[places].sum(), smallest) / pairs.sum()
            for pairs in (positive, negative)
        ]
        with np.errstate(divide="ignore"):
            ratios[places] = np.log(counts[0]) - np.log(counts[1])
    # Bins without a pair have the ratio of the one before, and the first of the first.
    places = np.maximum.accumulate(np.where(found, np.arange(len(found)), -1))
    places = np.where(places < 0, np.flatnonzero(found)[0], places)
    return np.minimum.accumulate(ratios[places])


def _logistic(
    distances: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """Log-ratios of a logistic regression; positives and negatives weigh the same.

    If the counts have one more bin than there are distances, it is not in the
    regression, and has the ratio of its pairs.
    """
    center, scale = distances.mean(), max(distances.std(), 1e-12)
    inputs = np.column_stack([np.ones(len(distances)), -(distances - center) / scale])
    inside = len(distances)
    shares = [(x / x.sum())[:inside] for x in (positive, negative)]
    weights = shares[0] + shares[1]
    # One pair's worth of shrinkage: separable distances have no finite slope.
    ridge = np.diag([0.0, 1.0 / min(positive.sum(), negative.sum())])
    beta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ beta, -500.0, 500.0)))
        gradient = inputs.T @ (shares[0] - weights * chance) - ridge @ beta
        curvature = (inputs * (weights * chance * (1.0 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + ridge + 1e-9 * np.eye(2), gradient)
        # Halve what Newton would overshoot.
        step *= min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    ratios = beta[0] + inputs[:, 1] * max(beta[1], 0.0)
    beyond = [max(x[inside:].sum(), 1.0) / x.sum() for x in (positive, negative)]
    last = min(math.log(beyond[0] / beyond[1]), ratios[-1])
    return np.append(ratios, [last] * (len(positive) - inside))
