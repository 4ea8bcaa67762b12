"""Estimates from a sample of the negative pairs, and their errors."""

import dataclasses
import functools
import math

import numpy as np

from keras_tcm.evaluation._counting.label_pairs import (
    CountedNegatives,
    Negatives,
    PositivePairs,
)
from keras_tcm.evaluation._inputs.pair_space import ClassSizes, PairSpace
from keras_tcm.evaluation._inputs.samples import UnitVectors
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import (
    NeighborRanks,
    Tally,
    count_type,
    interpolate,
)
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import NUM_STEPS, TIE_STEPS, Histogram
from keras_tcm.ops.curves import epsilon_opis, opis_per_class, utility_curves
from keras_tcm.validation import UndefinedError

# Random folds of the sampled gallery: their differences give the standard errors.
NUM_FOLDS = 32
_MAX_BINS = 512
_TABLE_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class SampledNegatives(Negatives):
    """The pairs of all queries with a sample of the gallery.

    The sample is drawn without replacement and falls into random folds of equal sizes,
    which are counted apart. Neighbours are ranked for a sample of the queries, in the
    whole gallery: without a separate gallery these are the same pairs.

    Attributes:
        drawn: Places of the sample in the gallery, fold after fold.
        fold_sizes: Pairs of each fold, shape `(folds,)`.
        fold_per_class: Those of each eligible class, shape `(folds, C)`.
    """

    drawn: np.ndarray
    fold_sizes: np.ndarray
    fold_per_class: np.ndarray

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are counted."""
        return int(self.fold_sizes.sum())

    @functools.cached_property
    def num_per_class(self) -> np.ndarray:
        """Those of each eligible class, counted from each end that is a query."""
        return self.fold_per_class.sum(axis=0)

    @property
    def share(self) -> float:
        """Share of the gallery that is sampled."""
        return len(self.drawn) / self.space.gallery.size

    @property
    def query_share(self) -> float:
        """Share of the queries whose neighbours are ranked."""
        return self.ranked.space.queries.size / self.space.queries.size

    def new_ranks(self) -> NeighborRanks | None:
        """Ranks of queries that are rows of the walk as well, if there are any."""
        if self.space.has_gallery or not self.ranked.is_held:
            return None
        (lists,) = self.ranked.lists()
        order = np.searchsorted(np.sort(self.drawn), self.drawn)
        return NeighborRanks(lists.reordered(order), max(self.plan.ks))

    def edges(
        self, pilot: np.ndarray, first: int, last: int, cuts: np.ndarray
    ) -> np.ndarray:
        """Choose bins of which half are where the pairs of the pilot are."""
        row_bytes = self._table_type().itemsize * (len(self.num_per_class) + 1)
        num_bins = _TABLE_BYTES // (NUM_FOLDS * row_bytes)
        half = min(_MAX_BINS, max(num_bins, 16)) // 2
        # The more, the nearer these are.
        low, high = np.searchsorted(pilot, [first, last], side="right").clip(1)
        near = pilot[np.geomspace(low, high, half).astype(np.int64) - 1]
        grid = np.linspace(min(first, *cuts, last), last, half).astype(np.int64)
        return np.union1d(near[near <= last], grid)

    def count(self, edges: np.ndarray, ranks: NeighborRanks | None) -> CountedNegatives:
        """Count the pairs in bins that end at the edges, and ranks on the way."""
        queries, gallery = self.space.queries, self.space.gallery
        fold_size = len(self.drawn) // NUM_FOLDS
        tally = Tally(
            edges,
            None,
            self.sizes.slots[queries.codes],
            len(self.num_per_class),
            self._table_type,
            count_type(int(self.fold_sizes.max())),
            fold_size,
            NUM_FOLDS,
        )
        rows = UnitVectors(
            gallery.vectors[self.drawn],
            num_cached=math.ceil(len(self.drawn) / fold_size),
        )
        codes = gallery.codes[self.drawn]
        walk_pairs(rows, codes, queries, self.plan, tally, ranks, row_side=fold_size)
        return CountedNegatives(tally, self.num_pairs)

    def accepted(
        self, counted: CountedNegatives, cuts: np.ndarray
    ) -> tuple[np.ndarray, None]:
        """Estimate the pairs of each eligible class up to each cut."""
        edges = counted.tally.edges
        return _accepted(counted.table, edges, self.num_per_class, cuts), None

    def shares_without(
        self, fold: int, counted: CountedNegatives, cuts: np.ndarray
    ) -> np.ndarray:
        """Shares of the pairs of each class up to each cut, without a fold."""
        num_pairs = self.num_per_class - self.fold_per_class[fold]
        table = counted.table - counted.tally.table[fold, :-1]
        accepted = _accepted(table, counted.tally.edges, num_pairs, cuts)
        return accepted / num_pairs[:, None]

    def histogram_without(self, fold: int, counted: CountedNegatives) -> Histogram:
        """The pairs by distance, without a fold."""
        counts = counted.counts - counted.tally.histogram[fold]
        return Histogram.of(counts, self.num_pairs - int(self.fold_sizes[fold]))

    @property
    def _table_type(self) -> type:
        return count_type(self.fold_per_class.max())


def sample_negatives(
    space: PairSpace, sizes: ClassSizes, plan: Plan, max_pairs: int
) -> SampledNegatives:
    """Draw the samples.

    Raises:
        ValueError: If `max_pairs` is too small for a sample.
        UndefinedError: If a class, or all sampled queries, happen to lack pairs.
    """
    rng = np.random.default_rng(plan.seed)
    queries, gallery = space.queries, space.gallery
    budget = max_pairs // 2 if space.has_gallery else max_pairs
    fold_size = budget // queries.size // NUM_FOLDS
    size = fold_size * NUM_FOLDS
    num_queries = budget // gallery.size if space.has_gallery else size
    if not size or not num_queries:
        least = max(NUM_FOLDS * queries.size, gallery.size)
        least *= 2 if space.has_gallery else 1
        raise ValueError(
            f"`max_pairs` must be at least {least} for these samples, "
            f"{NUM_FOLDS} for each. Received: max_pairs={max_pairs}"
        )
    drawn = rng.choice(gallery.size, size, replace=False)
    codes = gallery.codes[drawn]
    fold_sizes = (queries.size - sizes.query_counts[codes]).reshape(NUM_FOLDS, -1)
    sampled = np.zeros((NUM_FOLDS, len(sizes.query_counts)), np.int64)
    np.add.at(sampled, (np.repeat(np.arange(NUM_FOLDS), fold_size), codes), 1)
    fold_per_class = sizes.query_counts[sizes.eligible] * (
        fold_size - sampled[:, sizes.eligible]
    )
    if (fold_per_class.sum(axis=0) == fold_per_class.max(axis=0)).any():
        raise UndefinedError(
            "`max_pairs` must be larger: a class has negative pairs with too few "
            f"of the sampled. Received: max_pairs={max_pairs}"
        )
    ranked = drawn
    if space.has_gallery:
        ranked = rng.choice(queries.size, num_queries, replace=False)
    positives = PositivePairs(space.of_queries(np.sort(ranked)))
    if not positives.num_pairs:
        raise UndefinedError(
            "`max_pairs` must be larger: none of the sampled queries has a "
            f"positive. Received: max_pairs={max_pairs}"
        )
    return SampledNegatives(
        space, sizes, plan, positives, drawn, fold_sizes.sum(axis=1), fold_per_class
    )


def _accepted(
    table: np.ndarray, edges: np.ndarray, num_pairs: np.ndarray, cuts: np.ndarray
) -> np.ndarray:
    counted = interpolate(table, edges, np.minimum(cuts, edges[-1]))
    # No pair is farther than the largest distance.
    return np.where(cuts == NUM_STEPS - 1, num_pairs[:, None], counted)


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
        positives_at_edges: Those of each class up to each of `counted.tally.edges`.
        num_positives: Those of each class.
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
    whole_far, _ = negatives.accepted(counted, thresholds.cuts[calibration])
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
    Threshold and error are in steps.
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
