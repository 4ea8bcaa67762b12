"""The CosFace loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.softmax import softmax_rows, target_mask
from keras_tcm.validation import check_number


def cosface_logits(labels: Any, cosines: Any, margin: float, scale: float) -> Any:
    """Logits with an additive margin on the cosine of the target class.

    Args:
        labels: Integer class indices of shape `(b,)`.
        cosines: Cosines of shape `(b, c)`.
        margin: Amount by which the target's cosine is lowered.
        scale: Factor on the cosines.

    Returns:
        Tensor of shape `(b, c)`.
    """
    return scale * ops.where(target_mask(labels, cosines), cosines - margin, cosines)


@keras.saving.register_keras_serializable(package="keras_tcm")
class CosFace(EmbeddingLoss):
    """Additive margin on the cosine of the target class.

    Cross-entropy on `scale * c_k`, with `scale * (c_y - margin)` for the target class
    `y`; `c` are the cosines of `layers.CosineClassifier`.

    Args:
        margin: Amount by which the target's cosine is lowered, in [0, 2]. Defaults to
            0.35.
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
    >>> model.compile("adam", loss={"cosines": keras_tcm.losses.CosFace(),
    ...                             "embedding": keras_tcm.losses.TCM()})

    Reference:
        - [Wang et al., CVPR 2018](https://arxiv.org/abs/1801.09414)
    """

    def __init__(
        self,
        margin: float = 0.35,
        scale: float = 64.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin, 0, 2)
        self.scale = check_number("scale", scale, 0, open_low=True)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        logits = cosface_logits(labels, predictions, self.margin, self.scale)
        return self.average(softmax_rows(labels, logits), weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
