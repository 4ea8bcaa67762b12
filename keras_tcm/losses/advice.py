"""What the values of its first calls tell a loss about how it is used."""

import warnings
from typing import Any

from keras import ops

from keras_tcm.labels import check_whole_numbers
from keras_tcm.ops.pairs import has_pairs
from keras_tcm.ops.tracing import is_traced
from keras_tcm.relevance import Relevance

# Samples up to which a matrix of all pairs is looked at.
_MAX_MATRIX = 4096
_BATCHES = (
    "Batches need several samples of each of several classes, as "
    "`keras_tcm.data.ClassBalancedSampler(x, y, classes_per_batch=..., "
    "samples_per_class=...)` makes them."
)


class Advice:
    """Looks for common mistakes in the values of some calls, and tells each once.

    Inside a compiled step there are no values. Elsewhere a look costs a wait for the
    device; so the first 8 calls have one, and then every one whose number is a power
    of 2.

    Args:
        name: Name of the loss.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: dict[str, int] = {}
        self._told: set[str] = set()

    def look_at_labels(self, labels: Any) -> None:
        """Raise if class labels are floats that are not whole, or not exact."""
        if self._is_due("labels", labels):
            check_whole_numbers("y_true", labels)

    def look_at_predictions(self, predictions: Any) -> None:
        """Warn of what looks like the output of a softmax.

        Args:
            predictions: Tensor of shape `(batch, d)`, or of two towers.
        """
        if not self._is_due("softmax", predictions) or min(predictions.shape) < 2:
            return
        sums = ops.sum(predictions, axis=-1)
        squares = ops.sum(ops.square(predictions), axis=-1)
        is_softmax = ops.logical_and(
            ops.all(predictions >= 0), ops.all(ops.abs(sums - 1) < 1e-3)
        )
        # One-hot rows are unit vectors as well.
        if bool(ops.logical_and(is_softmax, ops.any(squares < 0.999))):
            self._tell(
                "softmax",
                "got what looks like the output of a softmax: no entry of `y_pred` is "
                "negative, and every row adds up to 1. It takes embeddings, or cosines "
                "of `keras_tcm.layers.CosineClassifier`: leave the softmax out.",
            )

    def look_at_pairs(
        self,
        labels: Any,
        weights: Any,
        relevance: Relevance | None,
        has_towers: bool = False,
    ) -> None:
        """Warn of a batch without a positive, or without a negative pair.

        Args:
            labels: Labels of all samples of the batch, shape `(n, ...)`.
            weights: Their instance weights, shape `(n,)`.
            relevance: What compares labels.
            has_towers: Whether the query and the item of each sample are a pair.
        """
        if not self._is_due("pairs", labels, weights):
            return
        if not bool(ops.all(weights > 0)):
            kept = ops.convert_to_numpy(weights) > 0
            labels = ops.convert_to_tensor(ops.convert_to_numpy(labels)[kept])
        size = labels.shape[0]
        if size < 2 or (relevance is not None and size > _MAX_MATRIX):
            return
        has_positive, has_negative = map(bool, has_pairs(labels, relevance))
        if not has_positive and not has_towers:
            self._tell(
                "pairs",
                f"got a batch of {size} samples in which no pair is positive: "
                f"nothing is pulled together. {_BATCHES}",
            )
        elif not has_negative:
            self._tell(
                "pairs",
                f"got a batch of {size} samples in which no pair is negative: "
                "nothing is pushed apart. Is the data sorted by class? " + _BATCHES,
            )

    def _is_due(self, subject: str, *tensors: Any) -> bool:
        if any(map(is_traced, tensors)) or subject in self._told:
            return False
        calls = self._calls[subject] = self._calls.get(subject, 0) + 1
        return calls <= 8 or calls.bit_count() == 1

    def _tell(self, subject: str, message: str) -> None:
        self._told.add(subject)
        warnings.warn(
            f"The loss {self._name!r} {message} (This is said once.)", stacklevel=2
        )
