"""What an evaluation measures, and the thresholds that the pairs give for it."""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_tcm.evaluation.distances import (
    NUM_STEPS,
    STEPS_PER_UNIT,
    TIE_STEPS,
    Histogram,
    accepted_steps,
    distance_range,
    from_cosine,
    to_cosine,
)
from keras_tcm.evaluation.score_normalization import measure_of
from keras_tcm.validation import (
    UndefinedError,
    check_integer,
    check_number,
    check_range,
    check_several,
)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Where an evaluation looks at the classes.

    Attributes:
        bounds: The calibration range.
        calibration: Distances spread evenly over it.
        points: Threshold in steps for each FAR target, or `None` if unresolved.
        between: Distances between the calibration range and the outermost points, or
            where FAR and FRR cross if that is farther, as dense as `calibration` unless
            that takes more of them on a side; and the crossing.
        eer: The equal error rate.
        cuts: Largest distance in steps that each of `calibration`, then each of
            `points`, then each of `between`, and then each of the criteria's
            `at_thresholds`, accepts.
    """

    bounds: tuple[float, float]
    calibration: np.ndarray
    points: list[int | None]
    between: np.ndarray
    eer: float
    cuts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Criteria:
    """What to measure: arguments of `evaluate_embeddings`."""

    far_range: tuple[float, float]
    frr_range: tuple[float, float] | None
    calibration_range: tuple[float, float] | None
    beta: float
    epsilon: float
    distance: str
    num_thresholds: int
    far_targets: tuple[float, ...]
    at_thresholds: tuple[float, ...]

    @property
    def needs_far_range(self) -> bool:
        """Whether the negative pairs determine the calibration range."""
        return self.frr_range is None and self.calibration_range is None

    @property
    def needs_open_set(self) -> bool:
        """Whether it matters what queries without a positive pair accept."""
        return bool(self.far_targets or self.at_thresholds)

    def check_resolvable(self, num_pairs: int) -> None:
        """Raise unless so many negative pairs resolve the range of FARs."""
        if self.needs_far_range and self.far_range[0] * num_pairs < 1:
            raise UndefinedError(
                "`far_range` must be resolvable: the smallest FAR that "
                f"{num_pairs} negative pairs resolve is {1 / num_pairs:.3g}. "
                f"Received: far_range={self.far_range}"
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Quantiles of the negative distances that matter."""
        # At a FAR of 1 every pair is accepted: nothing to count.
        targets = tuple(target for target in self.far_targets if target < 1.0)
        return (*self.far_range, *targets) if self.needs_far_range else targets

    @property
    def at_cuts(self) -> np.ndarray:
        """Largest distance in steps that each of `at_thresholds` accepts."""
        return self._cuts(np.array(self.at_thresholds))

    def known_cuts(self, positive: Histogram) -> np.ndarray:
        """Cuts of the calibration range, if the negative pairs do not determine it."""
        if self.needs_far_range:
            return np.zeros(0, np.int64)
        return self._cuts(np.linspace(*self._bounds(positive), self.num_thresholds))

    def exact_cuts(self, pilot: np.ndarray) -> np.ndarray:
        """Cuts at which no class is to be read off a bin.

        Args:
            pilot: Distances in steps of some negative pairs, increasing.
        """
        # At the largest distance every pair is accepted: nothing to count.
        return self.at_cuts[self.at_cuts < NUM_STEPS - 1]

    def thresholds(
        self,
        positive: Histogram,
        negative: Histogram,
        edges: np.ndarray | None = None,
    ) -> Thresholds:
        """Choose the thresholds from the distances of all pairs.

        Args:
            positive: The positive pairs.
            negative: The negative pairs, the nearest of them.
            edges: Cuts at which the negative pairs of each class are known, for
                criteria that leave a choice. These do not. Defaults to `None`: any.
        """
        bounds = self._bounds(positive, negative)
        calibration = np.linspace(*bounds, self.num_thresholds)
        points = [operating_steps(negative, target) for target in self.far_targets]
        point_cuts = [0 if point is None else point + TIE_STEPS for point in points]
        crossing, eer = equal_error(positive, negative)
        # At the largest distance every pair is accepted: that is no end of a range.
        inside = [
            self.distance_of(point)
            for point in (*points, crossing)
            if point not in (None, NUM_STEPS - 1)
        ]
        between = np.append(_between(calibration, inside), self.distance_of(crossing))
        cuts = [
            *self._cuts(calibration),
            *point_cuts,
            *self._cuts(between),
            *self.at_cuts,
        ]
        return Thresholds(
            bounds, calibration, points, between, eer, np.minimum(cuts, NUM_STEPS - 1)
        )

    def distance_of(self, steps: int) -> float:
        """Distance of the measure that was asked for."""
        return float(from_cosine(steps / STEPS_PER_UNIT, self.distance))

    def _cuts(self, calibration: np.ndarray) -> np.ndarray:
        return accepted_steps(to_cosine(calibration, self.distance))

    def _bounds(
        self, positive: Histogram, negative: Histogram | None = None
    ) -> tuple[float, float]:
        if self.calibration_range is not None:
            return self.calibration_range
        if self.frr_range is not None:
            low, high = self.frr_range
            name, rates, pairs = "frr_range", self.frr_range, positive
            shares = 1.0 - high, 1.0 - low
        else:
            assert negative is not None
            name, rates, pairs = "far_range", self.far_range, negative
            shares = rates
        bounds = []
        for share in shares:
            below, above, fraction = pairs.quantile(share)
            lower, upper = self.distance_of(below), self.distance_of(above)
            bounds.append(lower + fraction * (upper - lower))
        if bounds[0] >= bounds[1]:
            raise UndefinedError(
                f"`{name}` must span a range of distances. Received: {name}={rates}, "
                f"both ends of which lie at distance {bounds[0]:.6g} (tied or "
                "collapsed embeddings); give `calibration_range` to choose distances "
                "instead"
            )
        return bounds[0], bounds[1]


def _between(calibration: np.ndarray, points: list[float]) -> np.ndarray:
    """Distances from the calibration range out to the farthest points, without both."""
    low, high = calibration[0], calibration[-1]
    step = calibration[1] - low
    pieces = []
    for near, far in ((low, min([low, *points])), (high, max([high, *points]))):
        # A narrow range does not ask for any number of thresholds beside it; that of
        # two neighbouring floats has steps of 0.
        width, num_steps = abs(near - far), len(calibration)
        if width < num_steps * step:
            num_steps = math.ceil(width / step)
        pieces.append(np.linspace(near, far, num_steps + 1)[1:-1])
    return np.concatenate(pieces)


def make_criteria(
    far_range: Any = (0.01, 0.1),
    frr_range: Any = None,
    calibration_range: Any = None,
    beta: Any = 1.0,
    epsilon: Any = 0.1,
    distance: Any = "cosine",
    num_thresholds: Any = 101,
    far_targets: Any = (0.001, 0.01, 0.1),
    at_thresholds: Any = (),
    score_normalization: Any = None,
) -> Criteria:
    """Check what to measure: arguments of `evaluate_embeddings`, and their defaults.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of range, or two ranges are given.
    """
    far_range = check_range("far_range", far_range, 0, 1)
    if far_range[0] == 0:
        raise ValueError(
            "`far_range` must be above 0: no number of negative pairs resolves a FAR "
            f"of 0. Received: far_range={far_range}"
        )
    distance = measure_of(distance, score_normalization)
    if frr_range is not None and calibration_range is not None:
        raise ValueError(
            "`frr_range` and `calibration_range` must not both be given. "
            f"Received: frr_range={frr_range}, calibration_range={calibration_range}"
        )
    if frr_range is not None:
        frr_range = check_range("frr_range", frr_range, 0, 1)
    if calibration_range is not None:
        calibration_range = check_range(
            "calibration_range", calibration_range, *distance_range(distance)
        )
    return Criteria(
        far_range,
        frr_range,
        calibration_range,
        check_number("beta", beta, 0, open_low=True),
        check_number("epsilon", epsilon, 0, 1, open_low=True, open_high=True),
        distance,
        check_integer("num_thresholds", num_thresholds, 2),
        tuple(
            check_number("far_targets", target, 0, 1, open_low=True)
            for target in check_several("far_targets", far_targets, "numbers")
        ),
        # A threshold that is asked for twice is counted once.
        tuple(sorted(set(check_thresholds("at_thresholds", at_thresholds, distance)))),
    )


def check_thresholds(name: str, thresholds: Any, distance: str) -> list[float]:
    """Return distances of a measure as floats."""
    return [
        check_number(name, threshold, *distance_range(distance))
        for threshold in check_several(name, thresholds, "distances")
    ]


def equal_error(positive: Histogram, negative: Histogram) -> tuple[int, float]:
    """The pair distance, in steps, where FAR and FRR are closest, and their mean."""
    # A stable sort merges two sorted runs in linear time.
    observed = np.sort(np.concatenate([positive.steps, negative.steps]), kind="stable")
    far = negative.share_up_to(observed)
    frr = 1.0 - positive.share_up_to(observed)
    gaps = np.abs(far - frr)
    # The first of equal gaps: rounding must not choose.
    nearest = np.argmax(gaps <= gaps.min() + 1e-12)
    return int(observed[nearest]), float((far[nearest] + frr[nearest]) / 2)


def operating_steps(negative: Histogram, target: float) -> int | None:
    """Threshold in steps with the largest FAR up to `target`, or `None`."""
    acceptable = math.floor(target * negative.size)
    # Floor of a rounded product: 0.29 * 100 is 28.999...
    if (acceptable + 1) / negative.size <= target:
        acceptable += 1
    if acceptable < 1:
        return None
    if acceptable >= negative.size:
        return NUM_STEPS - 1
    # Just below the first negative that would be one too many, with room for the tie
    # tolerance on this side and for rounding on the user's.
    steps = negative.order_statistic(acceptable) - 2 * TIE_STEPS
    return steps if steps >= 0 else None
