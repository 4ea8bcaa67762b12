"""The ArcFace loss."""

import math
from typing import Any

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.softmax import softmax_rows, target_mask
from keras_tcm.validation import check_number


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
    """
    # cos(angle + margin) without the angle: acos has an infinite slope at 1, and so
    # has the sine as a function of the cosine; hence the bound.
    sines = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), 1e-7))
    shifted = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines - margin * math.sin(margin)
    with_margin = ops.where(cosines >= -math.cos(margin), shifted, beyond)
    return scale * ops.where(target_mask(labels, cosines), with_margin, cosines)


@keras.saving.register_keras_serializable(package="keras_tcm")
class ArcFace(EmbeddingLoss):
    """Additive angular margin on the cosine of the target class.

    Cross-entropy on `scale * c_k`, with `scale * cos(angle_y + margin)` for the
    target class `y`; `c` are the cosines of `layers.CosineClassifier`. Where
    `angle_y + margin` passes pi, the target's cosine minus `margin * sin(margin)`
    keeps the loss monotone.

    Args:
        margin: Angular margin in radians, in [0, pi). pytorch-metric-learning takes
            degrees (28.6). Defaults to 0.5.
        scale: Factor on the cosines, above 0. Defaults to 64.0.
        **options: Those of every loss: see `EmbeddingLoss`.

    Call arguments:
        y_true: Class indices in [0, num_classes), shape `(batch,)` or `(batch, 1)`.
            A sample with a label outside gives NaN.
        y_pred: Cosines of shape `(batch, num_classes)`.
        sample_weight: Optional weights, shape `(batch,)`.

    Raises:
        ValueError: If `margin` or `scale` is out of range.
        TypeError: If `margin` or `scale` is not a number.

    Example:

    >>> model = keras_tcm.models.embedding_model(backbone, 64, num_classes=100)
    >>> model.compile("adam", loss={"cosines": keras_tcm.losses.ArcFace(),
    ...                             "embedding": keras_tcm.losses.TCM()})
    >>> batches = keras_tcm.data.ClassBalancedSampler(
    ...     x, y, classes_per_batch=4, samples_per_class=2,
    ...     outputs=("cosines", "embedding"))

    Reference:
        - [Deng et al., CVPR 2019](https://arxiv.org/abs/1801.07698)
    """

    def __init__(
        self,
        margin: float = 0.5,
        scale: float = 64.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin, 0, math.pi, open_high=True)
        self.scale = check_number("scale", scale, 0, open_low=True)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        logits = arcface_logits(labels, predictions, self.margin, self.scale)
        return self.average(softmax_rows(labels, logits), weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
