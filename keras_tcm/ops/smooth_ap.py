"""The Smooth-AP loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs


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
    similarities = pairs.similarities
    # is_nearer[q, i, j] is close to 1 where j is nearer to query q than i is.
    is_nearer = ops.sigmoid(
        (similarities[:, None, :] - similarities[:, :, None]) / temperature
    )
    partners = ops.stack([pairs.positive, pairs.positive + pairs.negative], axis=-1)
    # Every partner is as near as itself (sigmoid(0) = 1/2): not part of its rank.
    nearer = ops.matmul(is_nearer, partners) - 0.5 * partners
    precision = (1.0 + nearer[..., 0]) / (1.0 + nearer[..., 1])
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    average_precision = ops.sum(pairs.positive * precision, axis=1) / ops.where(
        has_positive, positives, 1.0
    )
    return ops.where(has_positive, 1.0 - average_precision, 0.0), has_positive
