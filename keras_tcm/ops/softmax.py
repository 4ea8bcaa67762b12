"""What the losses on cosines between embeddings and class vectors share."""

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
