"""Distances: their measures, steps in which they are compared, and counts of pairs.

Distances are compared as integers: the cosine distance in steps of 2^-21 (4.8e-7),
which is what float32 similarities resolve. A threshold accepts `TIE_STEPS` more
steps, so that pairs whose distances are equal fall on the same side of it however
the products were rounded.

Scores that are normalised are products of longer vectors, scaled to unit length: 1 less
the score is their cosine distance, stretched about 1.
"""

import dataclasses
import math

import numpy as np

DISTANCES = ("cosine", "euclidean")
# Of normalised scores, by method: by how much the products are stretched. Sums of few
# powers of 2, so that a distance finds back to its steps exactly.
STRETCHES = {"shift": 2.25, "as_norm": 512.0}
STEPS_PER_UNIT = 2**21
NUM_STEPS = 2 * STEPS_PER_UNIT + 1
TIE_STEPS = 2
# A negative this many steps farther than a positive still ranks before it: ties count
# against the query, however the two products were rounded.
RANK_TIE_STEPS = 1
# A distance that comes from steps, say by way of a square root, finds back to them.
_ROUNDING = 1e-6


def from_cosine(values: np.ndarray | float, distance: str) -> np.ndarray:
    """Convert cosine distances `1 - s` to the named measure."""
    values = np.asarray(values, np.float64)
    if distance in STRETCHES:
        return 1.0 - STRETCHES[distance] * (1.0 - values)
    return np.sqrt(2.0 * values) if distance == "euclidean" else values


def to_cosine(values: np.ndarray | float, distance: str) -> np.ndarray:
    """Convert distances of the named measure to cosine distances."""
    values = np.asarray(values, np.float64)
    if distance in STRETCHES:
        return 1.0 - (1.0 - values) / STRETCHES[distance]
    return np.square(values) / 2.0 if distance == "euclidean" else values


def distance_range(distance: str) -> tuple[float, float]:
    """The least and the largest distance of the named measure.

    Args:
        distance: `"cosine"`, `"euclidean"`, `"shift"` or `"as_norm"`.

    Example:

    >>> keras_tcm.evaluation.distance_range("shift")
    (-1.25, 3.25)
    """
    low, high = from_cosine(np.array([0.0, 2.0]), distance).tolist()
    return low, high


def to_steps(similarities: np.ndarray) -> np.ndarray:
    """Distances in steps of float32 cosine similarities, int32."""
    distances = np.float32(1.0) - similarities
    distances *= np.float32(STEPS_PER_UNIT)
    np.rint(distances, out=distances)
    np.clip(distances, 0, NUM_STEPS - 1, out=distances)
    return distances.astype(np.int32)


def accepted_steps(cosine_distances: np.ndarray) -> np.ndarray:
    """Largest distance in steps that each threshold accepts."""
    distances = np.asarray(cosine_distances, np.float64)
    steps = np.floor(distances * STEPS_PER_UNIT + _ROUNDING)
    return np.minimum(steps.astype(np.int64) + TIE_STEPS, NUM_STEPS - 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How many pairs lie at each distance, for the nearest of them.

    Attributes:
        steps: The distances that occur, increasing.
        cumulative: Counts up to each of them.
        size: Number of pairs in all.
        times_counted: How often each pair was counted.
    """

    steps: np.ndarray
    cumulative: np.ndarray
    size: int
    times_counted: int = 1

    @classmethod
    def of(
        cls, counts: np.ndarray, size: int | None = None, times_counted: int = 1
    ) -> "Histogram":
        """Make a histogram of counts by distance in steps, up to some distance.

        Args:
            counts: The counts.
            size: Number of pairs in all. Defaults to those in the counts.
            times_counted: How often each pair was counted.
        """
        steps = np.flatnonzero(counts)
        cumulative = np.cumsum(counts[steps])
        if size is None:
            size = int(cumulative[-1]) // times_counted if len(steps) else 0
        return cls(steps, cumulative, size, times_counted)

    def has(self, index: int, limit: int) -> bool:
        """Whether the pair with `index` pairs before it has been counted up to `limit`.

        Args:
            index: Number of pairs before it.
            limit: A distance in steps.
        """
        return bool(index * self.times_counted < self._count_up_to(limit))

    def share_up_to(self, steps: np.ndarray | int) -> np.ndarray:
        """Share of the pairs whose distance is at most `steps`."""
        shares = self._count_up_to(steps) / (self.size * self.times_counted)
        return np.where(np.asarray(steps) >= NUM_STEPS - 1, 1.0, shares)

    def order_statistic(self, index: int) -> int:
        """Distance of the pair with `index` pairs before it."""
        position = index * self.times_counted
        return int(self.steps[np.searchsorted(self.cumulative, position, side="right")])

    def quantile(self, share: float) -> tuple[int, int, float]:
        """Order statistics around a quantile.

        Args:
            share: The quantile, in [0, 1].

        Returns:
            The distances just below and just above the quantile, and how far between
            them it lies, in [0, 1).
        """
        lower, fraction = self.quantile_index(share)
        upper = min(lower + 1, self.size - 1)
        return self.order_statistic(lower), self.order_statistic(upper), fraction

    def quantile_index(self, share: float) -> tuple[int, float]:
        """Number of pairs before a quantile, rounded down, and the remainder."""
        position = share * (self.size - 1)
        lower = math.floor(position)
        return lower, position - lower

    def _count_up_to(self, steps: np.ndarray | int) -> np.ndarray:
        counts = np.concatenate([[0], self.cumulative])
        return counts[np.searchsorted(self.steps, steps, side="right")]
