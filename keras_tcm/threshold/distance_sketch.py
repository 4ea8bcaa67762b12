"""A sketch of the distances between samples, to tell whether they have moved."""

import dataclasses
import math
from typing import Any, Self

import numpy as np

from keras_tcm.evaluation import (
    STEPS_PER_UNIT,
    ClassErrors,
    accepted_steps,
    from_cosine,
    to_cosine,
)

# Samples that are compared with each other, evenly spread.
MAX_SAMPLES = 1024
# Samples below which nothing can be told.
MIN_SAMPLES = 10
# Quantiles of the distances that are kept.
_LEVELS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclasses.dataclass(frozen=True, eq=False)
class DistanceSketch:
    """How far samples of several classes lie apart.

    Attributes:
        distances: Distances, increasing, shape `(K,)`.
        positive_shares: Share of the positive pairs up to each of them, shape `(K,)`.
        negative_shares: Share of the negative pairs, likewise.
        class_variances: Variance over classes of the share of all pairs, shape `(K,)`.
        design_effects: What it exceeds the variance over samples by, at least 1: pairs
            share samples, and samples share classes. Shape `(K,)`.
        num_samples: Samples that were compared.
    """

    distances: np.ndarray
    positive_shares: np.ndarray
    negative_shares: np.ndarray
    class_variances: np.ndarray
    design_effects: np.ndarray
    num_samples: int

    @classmethod
    def of(cls, steps: np.ndarray, codes: np.ndarray, distance: str) -> Self:
        """Sketch the distances of some samples from each other.

        Args:
            steps: The distances in steps, shape `(n, n)`.
            codes: Class of each, increasing.
            distance: Their measure.
        """
        upper = steps[np.triu_indices(len(steps), 1)]
        found = np.unique(np.quantile(upper, _LEVELS, method="inverted_cdf"))
        distances = from_cosine(found / STEPS_PER_UNIT, distance)
        _, codes = np.unique(codes, return_inverse=True)
        of_samples = _per_sample(steps, distances, distance)
        inside = _pairs_inside(steps, codes, distances, distance)
        sizes = np.bincount(codes)
        rows = np.zeros_like(inside)
        np.add.at(rows, codes, of_samples.errors)
        # A pair inside a class has both ends there.
        of_classes = ClassErrors(
            rows - inside,
            sizes * (len(codes) - sizes) + sizes * (sizes - 1) // 2,
            of_samples.all_errors,
            of_samples.all_pairs,
            classes_per_pair=2,
        )
        num_positives = int((sizes * (sizes - 1) // 2).sum())
        positives = inside.sum(axis=0)
        negatives = of_samples.all_errors - positives
        least = np.maximum(of_samples.variances, 1e-300)
        return cls(
            distances=distances,
            positive_shares=positives / max(num_positives, 1),
            negative_shares=negatives / (of_samples.all_pairs - num_positives),
            class_variances=of_classes.variances,
            design_effects=np.maximum(of_classes.variances / least, 1.0),
            num_samples=len(steps),
        )

    def compare(
        self, steps: np.ndarray, distance: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare with the distances of other samples from each other.

        How many of their pairs are positive is not known, nor does it matter: the share
        that fits best is taken. The variance over samples is multiplied by the design
        effects of the sketch: samples are taken to come in classes of about the same
        size.

        Args:
            steps: Distances of other samples from each other, in steps, shape `(m, m)`.
            distance: That of the sketch.

        Returns:
            Their shares at the distances of the sketch, what these were to be, and the
            difference in standard errors; of shape `(K,)`.
        """
        errors = _per_sample(steps, self.distances, distance)
        variances = self.class_variances + errors.variances * self.design_effects
        # A share of 0 or 1 has no variance of its own: that of one sample's pairs.
        variances = np.maximum(variances, 1.0 / (len(steps) * self.num_samples))
        surplus = self.positive_shares - self.negative_shares
        gap = errors.rates - self.negative_shares
        squares = np.sum(surplus**2 / variances)
        share = np.sum(surplus * gap / variances) / squares if squares else 0.0
        expected = self.negative_shares + np.clip(share, 0.0, 1.0) * surplus
        return errors.rates, expected, (errors.rates - expected) / np.sqrt(variances)

    def to_dict(self) -> dict[str, Any]:
        """Return the sketch as JSON-ready values."""
        return {
            field.name: np.asarray(getattr(self, field.name)).tolist()
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a sketch of what `to_dict` returned."""
        arrays = {
            name: np.asarray(value, np.float64)
            for name, value in values.items()
            if name != "num_samples"
        }
        return cls(num_samples=values["num_samples"], **arrays)


def spread(size: int, most: int) -> np.ndarray:
    """Places of at most so many samples, evenly spread over all of them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def _per_sample(steps: np.ndarray, distances: np.ndarray, distance: str) -> ClassErrors:
    """Pairs of each sample up to each distance, as if it were a class."""
    size = len(steps)
    bins = _bins(steps, distances, distance)
    # Without the pair with itself.
    bins[np.arange(size), np.arange(size)] = len(distances)
    counts = _count(np.repeat(np.arange(size), size), bins.ravel(), size, distances)
    totals = counts.sum(axis=0) / 2.0
    pairs = np.full(size, size - 1)
    return ClassErrors(counts, pairs, totals, math.comb(size, 2), classes_per_pair=2)


def _pairs_inside(
    steps: np.ndarray, codes: np.ndarray, distances: np.ndarray, distance: str
) -> np.ndarray:
    """Pairs inside each class up to each distance."""
    rows, columns = np.nonzero(np.triu(codes[:, None] == codes, 1))
    bins = _bins(steps[rows, columns], distances, distance)
    return _count(codes[rows], bins, int(codes.max()) + 1, distances)


def _bins(steps: np.ndarray, distances: np.ndarray, distance: str) -> np.ndarray:
    """Number of the first distance that accepts each pair, or how many there are."""
    return np.searchsorted(accepted_steps(to_cosine(distances, distance)), steps)


def _count(
    owners: np.ndarray, bins: np.ndarray, size: int, distances: np.ndarray
) -> np.ndarray:
    """Pairs of each owner up to each distance, shape `(size, K)`."""
    width = len(distances) + 1
    found = np.bincount(owners * width + bins, minlength=size * width)
    return found.reshape(size, width)[:, :-1].cumsum(axis=1)
