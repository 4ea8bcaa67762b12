"""Pairs of anchors and partners: who is positive, who is negative, with what weight."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops


def pair_masks(
    anchor_labels: Any, partner_labels: Any, first_anchor: Any = 0
) -> tuple[Any, Any]:
    """Tell positive pairs from negative pairs.

    Labels are compared in their own dtype, so large integers never collide.

    Args:
        anchor_labels: Tensor of shape `(a,)`.
        partner_labels: Tensor of shape `(n,)`; rows `first_anchor` to
            `first_anchor + a` are the anchors themselves.
        first_anchor: Index of the first anchor among the partners.

    Returns:
        Two boolean tensors of shape `(a, n)`: same label but another sample
        (positive pairs), and different labels (negative pairs).

    Example:

    >>> labels = keras.ops.convert_to_tensor([7, 7, 9])
    >>> positive, negative = keras_tcm.ops.pair_masks(labels, labels)
    >>> int(keras.ops.sum(keras.ops.cast(positive, "int32")))
    2
    """
    same_label = ops.equal(anchor_labels[:, None], partner_labels[None, :])
    anchors = ops.arange(ops.shape(anchor_labels)[0], dtype="int32") + first_anchor
    partners = ops.arange(ops.shape(partner_labels)[0], dtype="int32")
    same_sample = ops.equal(anchors[:, None], partners[None, :])
    positive = ops.logical_and(same_label, ops.logical_not(same_sample))
    return positive, ops.logical_not(same_label)


def _identity(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True)
class Pairs:
    """All anchor-partner pairs of a batch, as the pairwise losses see them.

    Attributes:
        similarities: Cosine similarities, shape `(a, n)`.
        positive: Weight of the partner in each positive pair, shape `(a, n)`;
            0 where the pair is not positive.
        negative: The same for negative pairs.
        anchor_weights: Instance weights of the anchors, shape `(a,)`.
        total: Function that adds a scalar up over replicas; the identity where
            the anchors are the whole batch.
    """

    similarities: Any
    positive: Any
    negative: Any
    anchor_weights: Any
    total: Callable[[Any], Any] = _identity
