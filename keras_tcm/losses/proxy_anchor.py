"""The proxy-anchor loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.log_sum_exp import log_one_plus_sum_exp, merge_log_one_plus
from keras_tcm.ops.softmax import target_mask
from keras_tcm.validation import check_number


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


@keras.saving.register_keras_serializable(package="keras_tcm")
class ProxyAnchor(EmbeddingLoss):
    """Proxy-anchor loss: class directions as anchors of all samples of the batch.

    With `c_ik` the cosine of sample `i` to proxy `k` from `layers.CosineClassifier`,

    ```
    loss = mean over proxies k with a sample in the batch of
             log(1 + sum over i of class k of exp(-scale * (c_ik - margin)))
         + mean over all proxies k of
             log(1 + sum over i of other classes of exp(scale * (c_ik + margin)))
    ```

    The paper trains the proxies with 100 times the learning rate of the backbone.

    Args:
        margin: Margin on the cosines, in [0, 2]. Defaults to 0.1.
        scale: Factor on the cosines, above 0. Defaults to 32.0.
        **options: Those of every loss: see `EmbeddingLoss`. The loss belongs to the
            batch: every row of the `reduction` `"none"` is the whole loss.

    Call arguments:
        y_true: Class indices in [0, num_classes), shape `(batch,)` or `(batch, 1)`.
            A sample with a label outside gives NaN.
        y_pred: Cosines of shape `(batch, num_classes)`.
        sample_weight: Optional weights, shape `(batch,)`, of the samples in the sums.

    Raises:
        ValueError: If `margin` or `scale` is out of range.
        TypeError: If `margin` or `scale` is not a number.

    Example:

    >>> model = keras_tcm.models.embedding_model(backbone, 64, num_classes=100)
    >>> model.compile("adam", loss={"cosines": keras_tcm.losses.ProxyAnchor(),
    ...                             "embedding": keras_tcm.losses.TCM()})

    Reference:
        - [Kim et al., CVPR 2020](https://arxiv.org/abs/2003.13911)
    """

    def __init__(
        self,
        margin: float = 0.1,
        scale: float = 32.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin, 0, 2)
        self.scale = check_number("scale", scale, 0, open_low=True)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        is_target = target_mask(labels, predictions)
        is_known = ops.any(is_target, axis=1)
        weights = ops.where(is_known, weights, 0.0)
        loss = proxy_anchor(
            is_target,
            predictions,
            weights,
            self.margin,
            self.scale,
            self.replicas(predictions),
        )
        return ops.where(is_known, loss, float("nan"))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
