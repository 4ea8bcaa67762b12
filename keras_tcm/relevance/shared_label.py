"""Positive pairs of multi-label data."""

from typing import Any

import keras
from keras import ops

from keras_tcm.relevance.relevance import Relevance
from keras_tcm.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_tcm")
class SharedLabel(Relevance):
    """Samples with several labels: a pair is positive if they have one in common.

    Labels are one-hot or multi-hot rows: entry `c` is above 0 for a sample with label
    `c`. A sample without any label has no positive pair.

    Args:
        num_labels: Number of different labels, the width of the rows. Defaults to
            `None`: whatever comes.

    Raises:
        TypeError: If `num_labels` is not an integer.
        ValueError: If `num_labels` is below 1; in use, if labels have another shape.

    Example:

    >>> labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    >>> positive = keras_tcm.relevance.SharedLabel()(labels, labels)
    >>> keras.ops.convert_to_numpy(positive)[0].tolist()
    [True, True, False]
    """

    def __init__(self, num_labels: int | None = None) -> None:
        if num_labels is not None:
            num_labels = check_integer("num_labels", num_labels, 1)
        self.num_labels = num_labels

    def check_labels(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise unless labels are rows of the right width."""
        expected = "num_labels" if self.num_labels is None else self.num_labels
        if len(shape) != 2 or self.num_labels not in (None, shape[1]):
            raise ValueError(
                f"`{name}` must be one-hot or multi-hot, of shape (batch, {expected}). "
                f"Received: {name}.shape={shape}"
            )

    def __call__(self, anchor_labels: Any, partner_labels: Any) -> Any:
        """Tell which pairs have a label in common, shape `(a, n)`."""
        anchors, partners = (
            ops.cast(ops.cast(labels, "float32") > 0, "float32")
            for labels in (anchor_labels, partner_labels)
        )
        return ops.matmul(anchors, ops.transpose(partners)) > 0

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"num_labels": self.num_labels}
