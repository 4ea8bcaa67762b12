"""The Smooth-AP loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.ranks import count_nearer


def smooth_ap_anchors(pairs: Pairs, temperature: float) -> tuple[Any, Any]:
    """One minus the smoothed average precision of each query.

    Args:
        pairs: The pairs of the batch; every anchor is a query against all its
            partners.
        temperature: Width of the sigmoid that stands in for the step function.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which queries have a positive partner; the loss of the others is 0.

    Reference:
        - [Brown et al., ECCV 2020](https://arxiv.org/abs/2007.12163)
    """
    partners = ops.stack([pairs.positive, pairs.positive + pairs.negative], axis=-1)
    nearer = count_nearer(pairs.similarities, partners, temperature)
    precision = (1.0 + nearer[..., 0]) / (1.0 + nearer[..., 1])
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    average_precision = ops.sum(pairs.positive * precision, axis=1) / ops.where(
        has_positive, positives, 1.0
    )
    return ops.where(has_positive, 1.0 - average_precision, 0.0), has_positive
