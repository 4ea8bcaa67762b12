"""The triplet loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND


def hardest_triplets(pairs: Pairs, margin: float) -> tuple[Any, Any]:
    """Loss of the farthest positive and the nearest negative of each anchor.

    Args:
        pairs: The pairs.
        margin: Distance that negatives should keep from positives, on squared
            Euclidean distances of unit vectors.

    Returns:
        The loss, and 1 where it is above 0: tensors of shape `(a,)`.

    Reference:
        - [Hermans et al., 2017](https://arxiv.org/abs/1703.07737), equation 5.
    """
    similarities = pairs.similarities
    is_positive, is_negative = pairs.positive > 0, pairs.negative > 0
    has_triplet = ops.logical_and(
        ops.any(is_positive, axis=1), ops.any(is_negative, axis=1)
    )
    positives = ops.min(ops.where(is_positive, similarities, BEYOND), axis=1)
    negatives = ops.max(ops.where(is_negative, similarities, -BEYOND), axis=1)
    gaps = ops.where(has_triplet, positives, 0.0) - ops.where(
        has_triplet, negatives, 0.0
    )
    losses = margin - 2.0 * gaps
    is_active = ops.logical_and(has_triplet, losses > 0)
    return ops.where(is_active, losses, 0.0), ops.cast(is_active, losses.dtype)


def all_triplets(
    pairs: Pairs, margin: float, semi_hard: bool = False
) -> tuple[Any, Any]:
    """What the losses of the triplets of each anchor add up to.

    Args:
        pairs: The pairs.
        margin: See `hardest_triplets`.
        semi_hard: Whether to leave out negatives that are nearer than the positive.
            Defaults to `False`.

    Returns:
        The sum of the losses, and the sum of the weights of the triplets with a loss
        above 0: tensors of shape `(a,)`.

    Reference:
        - [Schroff et al., CVPR 2015](https://arxiv.org/abs/1503.03832), section 3.2.
    """
    similarities = pairs.similarities
    # gaps[a, p, n]: by how much partner p is nearer to anchor a than partner n is.
    gaps = similarities[:, :, None] - similarities[:, None, :]
    losses = margin - 2.0 * gaps
    is_active = losses > 0
    if semi_hard:
        is_active = ops.logical_and(is_active, gaps > 0)
    negative = pairs.negative[:, :, None]

    def total(values: Any) -> Any:
        return ops.sum(pairs.positive * ops.matmul(values, negative)[..., 0], axis=1)

    return (
        total(ops.where(is_active, losses, 0.0)),
        total(ops.cast(is_active, losses.dtype)),
    )
