"""The proxy-anchor loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.proxy_anchor import proxy_anchor
from keras_tcm.ops.softmax import target_mask
from keras_tcm.validation import check_number


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
        reduction: See `EmbeddingLoss`; the loss belongs to the batch, and every row of
            `"none"` is the whole loss. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"proxy_anchor"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

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
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "proxy_anchor",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(reduction, name, dtype, gather)
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
