"""Error rates of groups of classes, at the thresholds that were found for all."""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np

from keras_tcm.evaluation._counting.count_pairs import PairCounts, count_pairs
from keras_tcm.evaluation._inputs.pair_space import PairSpace, class_sizes
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation.class_errors import MIN_CLASSES, ClassErrors
from keras_tcm.evaluation.class_intervals import (
    CONFIDENCE,
    opis_interval,
    pair_errors,
)
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, distance_range
from keras_tcm.evaluation.inequity import Inequity
from keras_tcm.labels import check_labels, encode_labels
from keras_tcm.ops.curves import f_beta, opis_per_class

GroupPairs = Literal["both_ends", "one_end"]
GROUP_PAIRS = ("both_ends", "one_end")


@dataclasses.dataclass(frozen=True)
class GroupPoint:
    """What a threshold does to the pairs of a group.

    Attributes:
        far_target: Target of the FAR of all pairs, for which the threshold is; NaN if
            the threshold itself was asked for.
        threshold: The threshold, that of all groups. NaN if the target is not resolved;
            then so is all else.
        far: Share of the group's negative pairs that are accepted. NaN if the group has
            fewer than two classes to compare.
        frr: Share of its positive pairs that are rejected. NaN if it has none.
        utility: F-beta of `1 - far` and `1 - frr`, in [0, 1]; NaN if one of them is.
        intervals: 95% intervals of `"far"` and `"frr"`, for other classes of the same
            group. `None` below three classes, and where the rates are NaN.
    """

    far_target: float
    threshold: float
    far: float
    frr: float
    utility: float
    intervals: dict[str, tuple[float, float]] | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of classes at the thresholds of an evaluation of all.

    Attributes:
        label: Label of the group.
        num_classes: Its classes with a positive and a negative pair.
        num_samples: Its samples (queries).
        num_positive_pairs: Its positive pairs.
        num_negative_pairs: Its negative pairs: those with both ends in it; or those
            with one end in a class of `num_classes`, where a pair with both ends in
            such classes counts twice. 0 if the group has fewer than two classes to
            compare.
        opis: OPIS of its classes, among each other and on these pairs, over the
            calibration range of the evaluation. NaN if there are fewer than two.
        opis_interval: 95% interval of `opis`, for other classes of the same group.
            `None` below three classes.
        operating_points: One `GroupPoint` per FAR target of the evaluation.
        at_thresholds: One `GroupPoint` per distance of its `at_thresholds`.

    Example:

    >>> labels = np.repeat(np.arange(20), 5)
    >>> x = np.random.default_rng(0).normal(size=(20, 8))[labels]
    >>> x = x + np.random.default_rng(1).normal(size=x.shape)
    >>> result = keras_tcm.evaluate_embeddings(x, labels, groups=labels % 2)
    >>> sum(group.num_classes for group in result.groups)
    20
    """

    label: Hashable
    num_classes: int
    num_samples: int
    num_positive_pairs: int
    num_negative_pairs: int
    opis: float
    opis_interval: tuple[float, float] | None
    operating_points: tuple[GroupPoint, ...]
    at_thresholds: tuple[GroupPoint, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassGroups:
    """Which group each class belongs to.

    Attributes:
        labels: Labels of the groups.
        of_class: Index of the group of each class; -1 for classes without queries.
        pairs: Which pairs are those of a group.
    """

    labels: Sequence[Hashable]
    of_class: np.ndarray
    pairs: GroupPairs


def read_groups(groups: Any, pairs: GroupPairs, space: PairSpace) -> ClassGroups:
    """Check which group each class belongs to.

    Raises:
        TypeError: If `groups` are no labels.
        ValueError: If they are not one for each sample, or a class is in two.
    """
    queries = space.queries
    labels, (codes,) = encode_labels(check_labels("groups", groups, queries.size))
    codes = codes[queries.order]
    of_class = np.full(len(space.classes), -1)
    of_class[queries.codes] = codes
    other = np.flatnonzero(of_class[queries.codes] != codes)
    if len(other):
        code = queries.codes[other[0]]
        raise ValueError(
            "`groups` must give all samples of a class the same group. "
            f"Received: class {space.classes[code]!r} in groups "
            f"{labels[codes[other[0]]]!r} and {labels[of_class[code]]!r}"
        )
    return ClassGroups(labels, of_class, pairs)


@dataclasses.dataclass(frozen=True)
class _KnownCuts(Criteria):
    """Looks at the classes where all of them have been looked at.

    Attributes:
        cuts: Distances in steps.
    """

    cuts: tuple[int, ...] = ()

    @property
    def needs_open_set(self) -> bool:
        """Never: they are those of the whole."""
        return False

    @property
    def at_cuts(self) -> np.ndarray:
        """Where no class is to be read off a bin: everywhere."""
        return np.array(self.cuts)

    def known_cuts(self, positive: Histogram) -> np.ndarray:
        """All, but for the largest distance, at which there is nothing to count."""
        cuts = np.unique(self.at_cuts)
        return cuts[cuts < NUM_STEPS - 1]

    def thresholds(
        self,
        positive: Histogram,
        negative: Histogram,
        edges: np.ndarray | None = None,
    ) -> Thresholds:
        """The cuts, whatever the pairs."""
        nothing = np.zeros(0)
        return Thresholds(
            (math.nan, math.nan), nothing, [], nothing, math.nan, self.at_cuts
        )


def measure_groups(
    groups: ClassGroups,
    space: PairSpace,
    plan: Plan,
    criteria: Criteria,
    counts: PairCounts,
    thresholds: Sequence[float],
) -> tuple[Group, ...]:
    """Measure each group at the thresholds of all.

    Args:
        groups: Which classes are in which group.
        space: Which pairs there are.
        plan: How to go through them.
        criteria: What was asked for.
        counts: What has been counted of all classes.
        thresholds: Threshold of each operating point, then each of `at_thresholds`.
    """
    number = np.arange(len(counts.thresholds.cuts))
    size, num_at = criteria.num_thresholds, len(criteria.at_thresholds)
    targets = [*criteria.far_targets, *[math.nan] * num_at]
    # The calibration range, the operating points, and what was asked for.
    is_used = number < size + len(criteria.far_targets)
    is_used |= number >= len(number) - num_at
    cuts = counts.thresholds.cuts[is_used]
    all_far, all_frr = (
        errors.some(number[is_used]) for errors in pair_errors(counts, space.times_met)
    )
    eligible = class_sizes(space).eligible
    found = []
    for index, label in enumerate(groups.labels):
        is_member = groups.of_class == index
        places = np.flatnonzero(is_member[eligible])
        frr = _of_classes(all_frr, places) if len(places) else None
        far = None
        if groups.pairs == "one_end" and len(places):
            share = _share_within(space, is_member, eligible[places])
            # If the ends of a pair add what they differ by, the variance of the rate is
            # `1 + 3 * share` times that of the mean of as many classes.
            far = _of_classes(all_far, places, math.sqrt(1.0 + 3.0 * share))
        elif len(places) >= 2:
            far = _within(space.of_classes(is_member), plan, criteria, cuts)
        points = _points(far, frr, size, criteria.beta, targets, thresholds)
        opis, interval = math.nan, None
        if far is not None and frr is not None and len(places) >= 2:
            utility = f_beta(
                1.0 - frr.per_class[:, :size],
                1.0 - far.per_class[:, :size],
                criteria.beta,
            )
            per_class = opis_per_class(utility)
            opis = float(per_class.mean())
            if len(places) >= MIN_CLASSES:
                interval = opis_interval(per_class)
        found.append(
            Group(
                label=label,
                num_classes=len(places),
                num_samples=int(is_member[space.queries.codes].sum()),
                num_positive_pairs=int(counts.num_positives[places].sum())
                // space.times_met,
                num_negative_pairs=0 if far is None else _num_pairs(far, groups.pairs),
                opis=opis,
                opis_interval=interval,
                operating_points=points[: len(targets) - num_at],
                at_thresholds=points[len(targets) - num_at :],
            )
        )
    return tuple(found)


def group_inequity(groups: Sequence[Group], place: int) -> Inequity | None:
    """Inequity of the groups at a threshold.

    Args:
        groups: The groups.
        place: Place of the threshold among the operating points, and then the distances
            of `at_thresholds`.

    Returns:
        `None` if fewer than two groups have both rates there.
    """
    known = []
    for group in groups:
        point = (*group.operating_points, *group.at_thresholds)[place]
        if not math.isnan(point.utility):
            pairs = (group.num_negative_pairs, group.num_positive_pairs)
            known.append((point.far, point.frr, *pairs))
    return Inequity.of(*zip(*known, strict=True)) if len(known) >= 2 else None


def _within(
    space: PairSpace, plan: Plan, criteria: Criteria, cuts: np.ndarray
) -> ClassErrors:
    """Accepted negative pairs of samples of one group, at each cut."""
    fields = {
        field.name: getattr(criteria, field.name)
        for field in dataclasses.fields(Criteria)
    }
    whole = distance_range(criteria.distance)
    fields |= {"frr_range": None, "calibration_range": whole, "far_targets": ()}
    known = _KnownCuts(**fields, cuts=tuple(cuts.tolist()))
    plan = dataclasses.replace(plan, ks=(1,), shows_progress=False)
    return pair_errors(count_pairs(space, plan, known), space.times_met)[0]


def _of_classes(
    errors: ClassErrors, places: np.ndarray, classes_per_pair: float = 1.0
) -> ClassErrors:
    """The errors of some of the classes, all of which count for the rate."""
    of_each, pairs = errors.errors[places], errors.pairs[places]
    return ClassErrors(
        errors=of_each,
        pairs=pairs,
        all_errors=of_each.sum(axis=0) / classes_per_pair,
        all_pairs=float(pairs.sum()) / classes_per_pair,
        classes_per_pair=classes_per_pair,
    )


def _share_within(space: PairSpace, is_member: np.ndarray, codes: np.ndarray) -> float:
    """Share of the negative pairs of a group's classes whose other end is in it.

    Args:
        space: Which pairs there are.
        is_member: Whether each class is in the group.
        codes: The classes of the group that have rates.
    """
    if space.has_gallery:
        # The gallery's classes stay what they are.
        return 0.0
    sizes = np.diff(space.queries.starts)
    within = sizes[codes] @ (sizes[is_member].sum() - sizes[codes])
    return float(within / (sizes[codes] @ (sizes.sum() - sizes[codes])))


def _num_pairs(far: ClassErrors, pairs: GroupPairs) -> int:
    return int(far.pairs.sum() if pairs == "one_end" else far.all_pairs)


def _points(
    far: ClassErrors | None,
    frr: ClassErrors | None,
    first: int,
    beta: float,
    targets: Sequence[float],
    thresholds: Sequence[float],
) -> tuple[GroupPoint, ...]:
    """What each threshold does to a group.

    Args:
        far: Accepted negative pairs at each cut, or `None` if there are none.
        frr: Rejected positive pairs at each cut, likewise.
        first: Place of the first threshold among the cuts.
        beta: Weight of the sensitivity in the utility.
        targets: FAR target of each threshold.
        thresholds: The thresholds; NaN where a target is not resolved.
    """
    unknown = np.full(len(targets), math.nan)
    rates = [unknown, unknown]
    limits: dict[str, np.ndarray] = {}
    for number, (name, errors) in enumerate((("far", far), ("frr", frr))):
        if errors is not None:
            some = errors.some(np.arange(first, first + len(targets)))
            rates[number] = some.rates
            if some.num_classes >= MIN_CLASSES:
                limits[name] = some.intervals(CONFIDENCE)
    utility = f_beta(1.0 - rates[1], 1.0 - rates[0], beta)
    points = []
    for place, (target, threshold) in enumerate(zip(targets, thresholds, strict=True)):
        if math.isnan(threshold):
            points.append(GroupPoint(target, math.nan, math.nan, math.nan, math.nan))
            continue
        intervals = {
            name: (float(found[place, 0]), float(found[place, 1]))
            for name, found in limits.items()
        }
        is_known = not np.isnan([x[place] for x in rates]).any()
        point = GroupPoint(
            far_target=target,
            threshold=threshold,
            far=float(rates[0][place]),
            frr=float(rates[1][place]),
            utility=float(utility[place]) if is_known else math.nan,
            intervals=intervals or None,
        )
        points.append(point)
    return tuple(points)
