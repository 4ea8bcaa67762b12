"""Pairs of anchors and partners: who is positive, who is negative, with what weight."""

import dataclasses
import functools
from typing import Any

from keras import ops


def pair_masks(
    anchor_labels: Any, partner_labels: Any, places: Any = None
) -> tuple[Any, Any]:
    """Tell positive pairs from negative pairs.

    Labels are compared in their own dtype, so large integers never collide.

    Args:
        anchor_labels: Tensor of shape `(a,)`.
        partner_labels: Tensor of shape `(n,)`.
        places: Index of each anchor among the partners, int32 tensor of shape `(a,)`.
            Defaults to the first `a`.

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
    if places is None:
        places = ops.arange(ops.shape(anchor_labels)[0], dtype="int32")
    partners = ops.arange(ops.shape(partner_labels)[0], dtype="int32")
    same_sample = ops.equal(places[:, None], partners[None, :])
    positive = ops.logical_and(same_label, ops.logical_not(same_sample))
    return positive, ops.logical_not(same_label)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of some anchors with all partners, as the pairwise losses see them.

    Attributes:
        similarities: Cosine similarities, shape `(a, n)`.
        is_positive: Whether each pair is positive, shape `(a, n)`.
        is_negative: Whether each pair is negative.
        anchor_weights: Instance weights of the anchors, shape `(a,)`.
        partner_weights: Instance weights of the partners, shape `(n,)`.
    """

    similarities: Any
    is_positive: Any
    is_negative: Any
    anchor_weights: Any
    partner_weights: Any

    @functools.cached_property
    def positive(self) -> Any:
        """Weight of the partner in each positive pair; 0 elsewhere."""
        return ops.where(self.is_positive, self.partner_weights, self._zero)

    @functools.cached_property
    def negative(self) -> Any:
        """Weight of the partner in each negative pair; 0 elsewhere."""
        return ops.where(self.is_negative, self.partner_weights, self._zero)

    @property
    def _zero(self) -> Any:
        return ops.zeros((), dtype=self.partner_weights.dtype)
