"""From pairs to counts."""

import numpy as np

from keras_tcm.evaluation._counting.negative_pairs import (
    AllNegatives,
    NegativePairs,
    count_far_enough,
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
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.precision import full_precision
from keras_tcm.evaluation.criteria import Criteria


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
    negatives: NegativePairs = AllNegatives(space, sizes, positives, plan)
    if plan.max_pairs is not None:
        negatives = sample_negatives(space, sizes, plan, plan.max_pairs)
    check_resolvable(criteria, negatives.num_pairs)
    positive = positives.histogram()
    ranks = negatives.new_ranks()
    counted = count_far_enough(negatives, criteria, positive, ranks)
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
