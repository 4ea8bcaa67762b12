"""The recall@k surrogate."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.ranks import count_nearer


def recall_at_k_anchors(
    pairs: Pairs, k: Sequence[int], temperature: float, rank_temperature: float
) -> tuple[Any, Any]:
    """One minus the smoothed recall of each query, averaged over several k.

    Args:
        pairs: The pairs of the batch; every anchor is a query against all its
            partners.
        k: Numbers of neighbours.
        temperature: Width of the sigmoid that compares similarities.
        rank_temperature: Width of the sigmoid that compares ranks with k.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which queries have a positive partner; the loss of the others is 0.

    Reference:
        - [Patel et al., CVPR 2022](https://arxiv.org/abs/2108.11179)
    """
    partners = (pairs.positive + pairs.negative)[..., None]
    ranks = 1.0 + count_nearer(pairs.similarities, partners, temperature)[..., 0]
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    positives = ops.where(has_positive, positives, 1.0)

    def recall(k: int) -> Any:
        found = ops.sigmoid((k - ranks) / rank_temperature)
        found = ops.sum(pairs.positive * found, axis=1)
        return ops.minimum(found, k) / ops.minimum(positives, k)

    mean = sum(recall(each) for each in k) / len(k)
    return ops.where(has_positive, 1.0 - mean, 0.0), has_positive
