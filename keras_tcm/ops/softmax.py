"""Softmax losses on the cosines between embeddings and class vectors."""

import math
from typing import Any

from keras import ops


def softmax_rows(labels: Any, logits: Any) -> Any:
    """Cross-entropy of each row.

    Args:
        labels: Integer class indices of shape `(b,)`.
        logits: Tensor of shape `(b, c)`.

    Returns:
        Tensor of shape `(b,)`; NaN where a label is outside `[0, c)`.
    """
    is_target = target_mask(labels, logits)
    target_logits = ops.sum(ops.where(is_target, logits, 0.0), axis=-1)
    losses = ops.logsumexp(logits, axis=-1) - target_logits
    return ops.where(ops.any(is_target, axis=-1), losses, float("nan"))


def arcface_logits(labels: Any, cosines: Any, margin: float, scale: float) -> Any:
    """Logits with an angular margin on the target class.

    Where the angle plus the margin would pass pi, the target's logit goes on
    falling linearly in the cosine, so that the loss stays monotone.

    Args:
        labels: Integer class indices of shape `(b,)`.
        cosines: Cosines of shape `(b, c)`.
        margin: Additive margin in radians.
        scale: Factor on the cosines.

    Returns:
        Tensor of shape `(b, c)`.

    Reference:
        - [Deng et al., CVPR 2019](https://arxiv.org/abs/1801.07698), equation 3.
    """
    # cos(angle + margin) without the angle: acos has an infinite slope at 1, and so
    # has the sine as a function of the cosine; hence the bound.
    sines = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), 1e-7))
    shifted = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines - margin * math.sin(margin)
    with_margin = ops.where(cosines >= -math.cos(margin), shifted, beyond)
    return scale * ops.where(target_mask(labels, cosines), with_margin, cosines)


def cosface_logits(labels: Any, cosines: Any, margin: float, scale: float) -> Any:
    """Logits with an additive margin on the cosine of the target class.

    Args:
        labels: Integer class indices of shape `(b,)`.
        cosines: Cosines of shape `(b, c)`.
        margin: Amount by which the target's cosine is lowered.
        scale: Factor on the cosines.

    Returns:
        Tensor of shape `(b, c)`.

    Reference:
        - [Wang et al., CVPR 2018](https://arxiv.org/abs/1801.09414), equation 4.
    """
    return scale * ops.where(target_mask(labels, cosines), cosines - margin, cosines)


def target_mask(labels: Any, logits: Any) -> Any:
    """Tell which class is the target of each row.

    Args:
        labels: Integer class indices of shape `(b,)`.
        logits: Tensor of shape `(b, c)`.

    Returns:
        Boolean tensor of shape `(b, c)`; no target where a label is outside `[0, c)`.
    """
    classes = ops.arange(logits.shape[-1], dtype=ops.dtype(labels))
    return ops.equal(labels[:, None], classes[None, :])
