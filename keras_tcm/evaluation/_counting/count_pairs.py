"""From pairs to counts."""

import numpy as np

from keras_tcm.evaluation._counting.negative_pairs import (
    AllNegatives,
    CountedNegatives,
    retrieval,
)
from keras_tcm.evaluation._counting.pair_counts import (
    PairCounts,
    check_classes,
    check_resolvable,
)
from keras_tcm.evaluation._counting.positive_pairs import PositivePairs
from keras_tcm.evaluation._counting.relevance_pairs import count_relevant_pairs
from keras_tcm.evaluation._counting.sampled_pairs import (
    SampledNegatives,
    sample_negatives,
)
from keras_tcm.evaluation._counting.sampling_error import sampling_error
from keras_tcm.evaluation._inputs.pair_space import PairSpace, class_sizes
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tile_walk import similarities
from keras_tcm.evaluation.criteria import Criteria
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps
from keras_tcm.evaluation.precision import full_precision

_PILOT_ROWS = 1024


def count_pairs(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count pairs as far as the criteria ask.

    Args:
        space: Which pairs there are.
        plan: How to go through them.
        criteria: What will be asked for.

    Raises:
        UndefinedError: If fewer than two classes are eligible, the negative pairs do
            not resolve the `far_range`, or the thresholds are not defined.
    """
    with full_precision():
        if space.relevance is not None:
            return count_relevant_pairs(space, plan, criteria)
        return _count_by_label(space, plan, criteria)


def _count_by_label(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count positive pairs class by class, and the others in a walk over them."""
    sizes = class_sizes(space)
    check_classes(len(sizes.eligible), sizes.num_excluded)
    positives = PositivePairs(space)
    negatives: AllNegatives | SampledNegatives
    if plan.max_pairs is None:
        negatives = AllNegatives(space, sizes, positives, plan)
    else:
        negatives = sample_negatives(space, sizes, plan, plan.max_pairs)
    check_resolvable(criteria, negatives.num_pairs)
    positive = positives.histogram()
    ranks = negatives.new_ranks()
    counted = _count_far_enough(negatives, criteria, positive, ranks)
    thresholds = criteria.thresholds(positive, counted.histogram)
    cuts, places = np.unique(thresholds.cuts, return_inverse=True)
    positives_accepted = positives.accepted(cuts)[sizes.eligible]
    negatives_accepted = negatives.accepted(counted, cuts)
    hits, average_precision = retrieval(negatives.ranked, plan, ranks)
    error = None
    if isinstance(negatives, SampledNegatives):
        error = sampling_error(
            criteria,
            thresholds,
            positive,
            positives.accepted(counted.tally.edges)[sizes.eligible],
            sizes.num_positives,
            negatives,
            counted,
        )
    return PairCounts(
        classes=[space.classes[code] for code in sizes.eligible.tolist()],
        class_counts=sizes.query_counts[sizes.eligible],
        num_excluded=sizes.num_excluded,
        num_queries=space.queries.size,
        num_negative_pairs=sizes.num_negative_pairs,
        positive=positive,
        negative=counted.histogram,
        thresholds=thresholds,
        num_positives=sizes.num_positives,
        num_negatives=negatives.num_per_class,
        positives_accepted=positives_accepted[:, places],
        negatives_accepted=negatives_accepted[:, places],
        hits=hits,
        average_precision=average_precision,
        sampling_error=error,
    )


def _count_far_enough(
    pairs: AllNegatives | SampledNegatives,
    criteria: Criteria,
    positive: Histogram,
    ranks: NeighborRanks | None,
) -> CountedNegatives:
    """Count negative pairs as far as it matters, and rank neighbours on the way.

    Which distances matter is only known once the pairs have been counted. So a small
    pilot first tells about how far the counts must go; a walk then counts the pairs up
    to there, exactly in all and in bins class by class, and it is checked that they
    went far enough.

    Args:
        pairs: The pairs.
        criteria: What will be asked for.
        positive: The positive pairs by distance. The counts go at least to where FAR
            exceeds FRR.
        ranks: Ranks to count, or `None`.
    """
    pilot = _pilot(pairs.space)
    shares, cuts = criteria.shares, criteria.known_cuts(positive)
    # At these no class is to be read off a bin. At the largest distance every pair is
    # accepted: nothing to count.
    exact_cuts = criteria.at_cuts[criteria.at_cuts < NUM_STEPS - 1]
    asked = (*shares, _crossing_share(pilot, positive))
    first = min(_quantile(pilot, 0.5 * min(asked)), NUM_STEPS - 2)
    share = 1.25 * max(asked) + 0.002
    while True:
        last = max(_quantile(pilot, share), first + 1, *cuts)
        edges = np.union1d(pairs.edges(pilot, first, last, cuts), exact_cuts)
        counted = pairs.count(edges, ranks)
        # What the pilot did not foresee is counted anew, farther.
        if last == NUM_STEPS - 1 or _is_enough(
            last, shares, counted.histogram, positive
        ):
            return counted
        share, ranks = 2.0 * share, None


def _is_enough(
    last: int, shares: tuple[float, ...], negative: Histogram, positive: Histogram
) -> bool:
    """Whether counts up to `last` hold what will be asked for."""
    far = negative.share_up_to(last)
    frr = 1.0 - positive.share_up_to(last)
    # One more than a quantile needs: an operating point asks for the next pair.
    indices = [negative.quantile_index(share)[0] + 2 for share in shares]
    most = min(max(indices, default=0), negative.size - 1)
    return bool(far >= frr) and negative.has(most, last)


def _pilot(space: PairSpace) -> np.ndarray:
    """Distances in steps of some negative pairs, increasing."""
    queries, gallery = space.queries, space.gallery
    rows, columns = (_spread(queries.size), _spread(gallery.size))
    values = similarities(
        to_tensor(queries.vectors[rows], _PILOT_ROWS),
        to_tensor(gallery.vectors[columns], _PILOT_ROWS),
    )[: len(rows), : len(columns)]
    is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
    return np.sort(to_steps(values[is_negative]))


def _spread(size: int) -> np.ndarray:
    """Places spread evenly, so that all classes are among them if possible."""
    return np.unique(np.linspace(0, size - 1, _PILOT_ROWS).astype(np.int64))


def _quantile(pilot: np.ndarray, share: float) -> int:
    if share >= 1.0:
        return NUM_STEPS - 1
    return int(pilot[int(share * len(pilot))])


def _crossing_share(pilot: np.ndarray, positive: Histogram) -> float:
    """Share of the pilot up to where FAR reaches FRR."""
    far = np.arange(1, len(pilot) + 1) / len(pilot)
    frr = 1.0 - positive.share_up_to(pilot)
    return float(far[np.argmax(far >= frr)])
