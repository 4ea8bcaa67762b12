"""Counts of pairs, class by class, at the distances among which a threshold lies."""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from keras_tcm.evaluation._counting.count_pairs import PairCounts, count_pairs
from keras_tcm.evaluation._counting.open_set import OpenSet
from keras_tcm.evaluation._inputs.pair_space import (
    PairSpace,
    check_relevance,
    has_single_labels,
    pair_space,
)
from keras_tcm.evaluation._walk.device import DEVICES
from keras_tcm.evaluation._walk.plan import ClientExecutor, plan_for
from keras_tcm.evaluation.class_errors import ClassErrors
from keras_tcm.evaluation.class_intervals import open_set_intervals, pair_errors
from keras_tcm.evaluation.criteria import (
    Criteria,
    Thresholds,
    equal_error,
    make_criteria,
    operating_steps,
)
from keras_tcm.evaluation.distances import NUM_STEPS, TIE_STEPS, Histogram
from keras_tcm.evaluation.score_normalization import ScoreNormalization
from keras_tcm.validation import check_choice, check_integer

# Candidates for a threshold: about evenly spaced rates up to the target, from a share
# of it on. The rate that is given away between two of them is some 0.4% of the target,
# and no more than `_CLOSE`.
_NUM_CANDIDATES = 256
_LEAST_SHARE = 1.0 / 32.0
# Where the walk knows all classes at cuts this close, in the target, candidates are
# among those, which saves a second walk.
_CLOSE = 1.0 / 32.0
# Such cuts are asked for from a pilot, and that many for a candidate. It may be so
# wrong about the target.
_CUTS_PER_CANDIDATE = 2
_PILOT_ERROR = 1.25
# The FAR from whose share on the curve is known where none is asked for.
_USUAL_FAR = 0.01
# Thresholds of the curve, by negative pairs and by positive pairs.
_CURVE_POINTS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class ClassCounts:
    """How many pairs of each class err at each of some thresholds.

    `C` counts the classes with a positive and a negative pair, `T` the thresholds.

    Attributes:
        space: The samples, sorted by class.
        classes: Labels of the classes.
        class_counts: Samples (queries) of each, shape `(C,)`.
        num_excluded: Classes without a positive or a negative pair.
        num_samples: Samples (queries) of all classes.
        num_positive_pairs: Positive pairs, each counted once.
        thresholds: Distances, increasing, shape `(T,)`.
        far: Accepted negative pairs at each of these.
        frr: Rejected positive pairs at each of these.
        open_set: The samples (queries) without a positive pair.
        cuts: Largest distance in steps that each of the thresholds accepts, `(T,)`.
    """

    space: PairSpace
    classes: Sequence[Hashable]
    class_counts: np.ndarray
    num_excluded: int
    num_samples: int
    num_positive_pairs: int
    thresholds: np.ndarray
    far: ClassErrors
    frr: ClassErrors
    open_set: OpenSet
    cuts: np.ndarray

    def open_set_far(
        self, place: int, confidence: float
    ) -> tuple[float | None, tuple[float, float] | None]:
        """Share of the samples without a positive that one of the thresholds accepts.

        Args:
            place: Place of the threshold.
            confidence: Probability that the interval holds the rate.

        Returns:
            The share, `None` if there are no such samples; and its interval for other
            classes of them, `None` if they are of fewer than three.
        """
        if not self.open_set.num_queries:
            return None, None
        cuts = self.cuts[place : place + 1]
        limits = open_set_intervals(self.open_set, cuts, confidence)
        interval = (
            None if limits is None else (float(limits[0, 0]), float(limits[0, 1]))
        )
        return float(self.open_set.rates(cuts)[0]), interval


@dataclasses.dataclass(frozen=True)
class _Candidates(Criteria):
    """Candidates for a threshold, and a curve of the rates beside them.

    Attributes:
        far: Largest FAR of the candidates, or `None`.
        frr: Largest FRR of the candidates, or `None`.
    """

    far: float | None = None
    frr: float | None = None

    @property
    def needs_far_range(self) -> bool:
        """Never: there is no calibration range."""
        return False

    @property
    def needs_open_set(self) -> bool:
        """Always: a candidate may be chosen."""
        return True

    @property
    def shares(self) -> tuple[float, ...]:
        """Quantiles of the negative distances that matter."""
        return (self.least,) if self.far is None else (self.least, self.far)

    @property
    def least(self) -> float:
        """The smallest FAR that is looked at: bins are fine from there on."""
        return _LEAST_SHARE * (self.far or _USUAL_FAR)

    def known_cuts(self, positive: Histogram) -> np.ndarray:
        """What the positive pairs alone determine."""
        by_frr = np.array(self._frr_steps(positive), np.int64) + TIE_STEPS
        return np.union1d(np.minimum(by_frr, NUM_STEPS - 1), self.at_cuts)

    def exact_cuts(self, pilot: np.ndarray) -> np.ndarray:
        """Those that were asked for, and candidates as far as a pilot tells them."""
        asked = super().exact_cuts(pilot)
        if self.far is None:
            return asked
        number = _CUTS_PER_CANDIDATE * _NUM_CANDIDATES
        shares = self.far * np.linspace(_LEAST_SHARE, _PILOT_ERROR, number)
        up_to = np.arange(len(pilot) + 1) / len(pilot)
        cuts = np.interp(shares, up_to, np.append(0, pilot)).astype(np.int64)
        return np.union1d(asked, np.minimum(cuts, NUM_STEPS - 2))

    def thresholds(
        self,
        positive: Histogram,
        negative: Histogram,
        edges: np.ndarray | None = None,
    ) -> Thresholds:
        """Choose the candidates and the curve from the distances of all pairs."""
        steps = [*self._far_steps(negative), *self._frr_steps(positive)]
        curve = _curve_steps(positive, negative, self.least)
        if edges is not None:
            # What is beyond the last of them has not been counted.
            curve = _among(edges, curve)
            if self._is_close(edges, negative):
                steps = _among(edges, steps)
        steps.extend(curve)
        crossing, eer = equal_error(positive, negative)
        distinct = sorted({step for step in steps if step >= 0}) or [0]
        distances = np.array([self.distance_of(step) for step in distinct])
        asked = np.array(self.at_thresholds)
        cuts = np.minimum(np.array(distinct) + TIE_STEPS, NUM_STEPS - 1)
        distances = np.concatenate([distances, asked])
        bounds = (self.distance_of(0), self.distance_of(crossing))
        return Thresholds(
            bounds, distances, [], asked, eer, np.append(cuts, self.at_cuts)
        )

    def _is_close(self, edges: np.ndarray, negative: Histogram) -> bool:
        """Whether there is a cut close below any FAR that is looked at."""
        if self.far is None:
            return True
        rates = negative.share_up_to(edges)
        near = rates[(rates >= self.least) & (rates <= self.far)]
        gaps = np.diff(near, prepend=self.least, append=self.far)
        return bool(gaps.max() <= _CLOSE * self.far)

    def _far_steps(self, negative: Histogram) -> list[int]:
        if self.far is None:
            return []
        shares = self.far * np.linspace(_LEAST_SHARE, 1.0, _NUM_CANDIDATES)
        found = (operating_steps(negative, share) for share in shares.tolist())
        return [steps for steps in found if steps is not None]

    def _frr_steps(self, positive: Histogram) -> list[int]:
        if self.frr is None:
            return []
        shares = self.frr * np.arange(_NUM_CANDIDATES + 1) / _NUM_CANDIDATES
        most = positive.size - np.floor(shares * positive.size + 1e-9).astype(np.int64)
        return [positive.order_statistic(index - 1) for index in most.tolist() if index]


def _among(edges: np.ndarray, steps: list[int]) -> list[int]:
    """Distances whose cuts are edges, the next ones down; none below the first."""
    cuts = np.array(steps, np.int64) + TIE_STEPS
    places = np.searchsorted(edges, cuts, side="right")
    return (edges[places[places > 0] - 1] - TIE_STEPS).tolist()


def _curve_steps(positive: Histogram, negative: Histogram, least: float) -> list[int]:
    """Distances at which the negative and the positive pairs are spread evenly.

    Args:
        positive: The positive pairs.
        negative: The negative pairs, the nearest of them.
        least: The FAR from which on.
    """
    counted = int(negative.cumulative[-1]) // negative.times_counted
    start = min(max(1, math.ceil(least * negative.size)), counted)
    near = np.unique(np.geomspace(start, counted, _CURVE_POINTS).astype(np.int64))
    first, last = negative.order_statistic(start - 1), int(negative.steps[-1])
    steps = [negative.order_statistic(index - 1) for index in near.tolist()]
    shares = np.linspace(0.0, 1.0, _CURVE_POINTS)
    places = np.unique((shares * (positive.size - 1)).astype(np.int64))
    found = (positive.order_statistic(index) for index in places.tolist())
    return [*steps, *(step for step in found if first <= step <= last)]


def count_classes(
    embeddings: Any,
    labels: Any,
    *,
    far: float | None = None,
    frr: float | None = None,
    at_thresholds: Sequence[float] = (),
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    gallery_includes_queries: bool = False,
    distance: str = "cosine",
    relevance: Any = None,
    score_normalization: ScoreNormalization | None = None,
    block_size: int | None = None,
    client: Any = None,
    device: Any = "auto",
    verbose: Any = "auto",
) -> ClassCounts:
    """Count the pairs of each class at candidates for a threshold.

    One walk over the pairs, as in `evaluate_embeddings`.

    Args:
        embeddings: As for `evaluate_embeddings`, like all that is not named here: also
            of shape `(n, 2, d)`.
        labels: See above.
        far: Candidates with a FAR up to this are wanted: some 256 of them where there
            are as many pairs, and from one to the next no more than 1/32 of it.
        frr: Candidates with an FRR up to this are wanted, likewise.
        at_thresholds: Further distances, at which the counts are exact.
        gallery_embeddings: See above, like the rest.
        gallery_labels: See above.
        gallery_includes_queries: See above.
        distance: See above.
        relevance: `None` or a `HierarchyLevel`: samples must have one class each.
        score_normalization: See above.
        block_size: See above.
        client: See above.
        device: See above.
        verbose: See above.

    Returns:
        The counts at the candidates, at `at_thresholds` and at some hundred thresholds
        of the whole curve up to where FAR and FRR cross.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes do not match, an argument is out of range, or there are
            fewer than two classes with a positive and a negative pair.
    """
    base = make_criteria(
        distance=distance,
        at_thresholds=at_thresholds,
        score_normalization=score_normalization,
    )
    fields = {
        field.name: getattr(base, field.name) for field in dataclasses.fields(base)
    }
    criteria = _Candidates(**fields, far=far, frr=frr)
    relevance = check_relevance(relevance)
    if not has_single_labels(relevance):
        raise ValueError(
            "`relevance` must be a HierarchyLevel or None: what holds for other "
            "classes can be told where each sample has one class. "
            f"Received: relevance={relevance!r}"
        )
    if block_size is not None:
        block_size = check_integer("block_size", block_size, 1)
    check_choice("device", device, DEVICES)
    check_choice("verbose", verbose, (True, False, "auto"))
    space = pair_space(
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        relevance,
        gallery_includes_queries,
        score_normalization,
    )
    executor = None if client is None else ClientExecutor(client)
    plan = plan_for(
        space,
        (1,),
        block_size=block_size,
        executor=executor,
        device=device,
        verbose=verbose,
    )
    return _class_counts(space, count_pairs(space, plan, criteria))


def _class_counts(space: PairSpace, counts: PairCounts) -> ClassCounts:
    thresholds, places = np.unique(counts.thresholds.calibration, return_index=True)
    # Equal thresholds have equal counts; those asked for come last and are exact.
    far, frr = (x.some(places) for x in pair_errors(counts, space.times_met))
    return ClassCounts(
        space=space,
        classes=counts.classes,
        class_counts=counts.class_counts,
        num_excluded=counts.num_excluded,
        num_samples=counts.num_queries,
        num_positive_pairs=counts.positive.size,
        thresholds=thresholds,
        far=far,
        frr=frr,
        open_set=counts.open_set,
        cuts=counts.thresholds.cuts[places],
    )
