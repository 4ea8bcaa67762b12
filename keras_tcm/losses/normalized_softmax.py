"""The normalised softmax loss."""

from typing import Any

import keras

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.softmax import softmax_rows
from keras_tcm.validation import check_number


@keras.saving.register_keras_serializable(package="keras_tcm")
class NormalizedSoftmax(EmbeddingLoss):
    """Cross-entropy on cosines divided by a temperature.

    `loss = -log(exp(c_y / temperature) / sum over k of exp(c_k / temperature))`,
    averaged over the batch; `c` are the cosines of `layers.CosineClassifier`.

    Args:
        temperature: Divisor of the cosines, above 0. Defaults to 0.05.
        **options: Those of every loss: see `EmbeddingLoss`.

    Call arguments:
        y_true: Class indices in [0, num_classes), shape `(batch,)` or `(batch, 1)`.
            A sample with a label outside gives NaN.
        y_pred: Cosines of shape `(batch, num_classes)`.
        sample_weight: Optional weights, shape `(batch,)`.

    Raises:
        ValueError: If `temperature` is not above 0.
        TypeError: If `temperature` is not a number.

    Example:

    >>> model = keras_tcm.models.embedding_model(backbone, 64, num_classes=100)
    >>> model.compile("adam", loss={"cosines": keras_tcm.losses.NormalizedSoftmax(),
    ...                             "embedding": keras_tcm.losses.TCM()})
    >>> batches = keras_tcm.data.ClassBalancedSampler(
    ...     x, y, classes_per_batch=4, samples_per_class=2,
    ...     outputs=("cosines", "embedding"))

    Reference:
        - [Zhai and Wu, BMVC 2019](https://arxiv.org/abs/1811.12649)
    """

    def __init__(self, temperature: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        self.temperature = check_number("temperature", temperature, 0, open_low=True)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        losses = softmax_rows(labels, predictions / self.temperature)
        return self.average(losses, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "temperature": self.temperature}
