"""The proxy-anchor loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.log_sum_exp import log_one_plus_sum_exp, merge_log_one_plus


def proxy_anchor(
    is_target: Any,
    cosines: Any,
    weights: Any,
    margin: float,
    scale: float,
    replicas: Any = None,
) -> Any:
    """Proxy-anchor loss of a batch.

    Args:
        is_target: Whether each proxy is the sample's own, boolean `(b, c)`.
        cosines: Cosines between samples and proxies, shape `(b, c)`.
        weights: Instance weights in the sums, shape `(b,)`.
        margin: Margin on the cosines.
        scale: Factor on the cosines.
        replicas: The `Replicas` that share the batch, of which the arguments are a
            part. Defaults to `None`: they are all of it.

    Returns:
        Scalar tensor.

    Reference:
        - [Kim et al., CVPR 2020](https://arxiv.org/abs/2003.13911), equation 4.
    """
    # Proxies are the anchors: one row each.
    is_target, cosines = ops.transpose(is_target), ops.transpose(cosines)
    none = ops.zeros((), dtype=weights.dtype)
    positive = ops.where(is_target, weights, none)
    negative = ops.where(is_target, none, weights)
    pull = log_one_plus_sum_exp(-scale * (cosines - margin), positive)
    push = log_one_plus_sum_exp(scale * (cosines + margin), negative)
    present = ops.cast(ops.any(positive > 0, axis=1), pull.dtype)
    if replicas is not None:
        # Of each proxy's samples, the sum of exponentials is all that others need.
        (joined,), _ = replicas.gather([ops.stack([pull, push])[None]])
        pull, push = (merge_log_one_plus(joined[:, number]) for number in (0, 1))
        present = ops.cast(replicas.sum(present) > 0, pull.dtype)
    present = ops.sum(present)
    return ops.sum(pull) / ops.maximum(present, 1.0) + ops.mean(push)
