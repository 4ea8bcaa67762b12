"""The contrastive loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs

# Squared distances up to it are rounding: there the slope of the distance has no sense.
_COINCIDENT = 1e-6


def contrastive_pairs(pairs: Pairs, margin: float) -> tuple[Any, Any, Any, Any]:
    """What the contrastive loss of the pairs of each anchor adds up to.

    Args:
        pairs: The pairs.
        margin: Euclidean distance from which on negative pairs have no loss.

    Returns:
        The sum of the losses of the positive pairs and the sum of their weights, and
        the same for the negative pairs within the margin: tensors of shape `(a,)`.

    Reference:
        - [Hadsell et al., CVPR 2006](https://doi.org/10.1109/CVPR.2006.100)
    """
    positive, negative = pairs.positive, pairs.negative
    # Half of the squared distance between unit vectors.
    halves = 1.0 - pairs.similarities
    apart = 2.0 * halves > _COINCIDENT
    distances = ops.where(apart, ops.sqrt(ops.where(apart, 2.0 * halves, 1.0)), 0.0)
    within = ops.where(distances < margin, negative, ops.zeros_like(negative))
    return (
        ops.sum(positive * halves, axis=1),
        ops.sum(positive, axis=1),
        ops.sum(within * ops.square(margin - distances), axis=1) / 2,
        ops.sum(within, axis=1),
    )
