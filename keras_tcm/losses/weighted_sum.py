"""The weighted sum of losses."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.losses.pairwise_loss import PairwiseLoss, pairwise_rows
from keras_tcm.validation import check_number


@keras.saving.register_keras_serializable(package="keras_tcm")
class WeightedSum(EmbeddingLoss):
    """Weighted sum of losses; what `a + b` and `0.5 * a` make.

    The pairwise terms of this package share one pass over the similarities. Every other
    term is called as Keras would call it. Each term keeps its own reduction. Sums
    within sums are flattened.

    Where several replicas share a batch (see `gather` of `EmbeddingLoss`), the terms
    that are not of this package are called on the global batch by each replica, unless
    all terms of this package have `gather=False`.

    Args:
        losses: The terms, `keras.losses.Loss` instances.
        weights: One finite number per term. Defaults to 1 for each.
        name: Name of the sum. Defaults to the terms' names joined by `_plus_`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.

    Call arguments:
        y_true: Labels, as the terms want them.
        y_pred: Predictions, as the terms want them.
        sample_weight: Optional weights, shape `(batch,)`, given to every term.

    Raises:
        ValueError: If there is no term, the numbers of terms and weights differ, a
            weight is not finite, or only some terms have `reduction="none"`.
        TypeError: If a term is not a loss or a weight is not a number.

    Example:

    >>> loss = keras.losses.Circle() + 0.5 * keras_tcm.losses.TCM()
    >>> loss.weights
    (1.0, 0.5)
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float] | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        weights = [1.0] * len(losses) if weights is None else weights
        if not losses or len(losses) != len(weights):
            raise ValueError(
                "`losses` must hold at least one loss, and `weights` as many numbers. "
                f"Received: losses={losses}, weights={weights}"
            )
        terms: list[tuple[keras.losses.Loss, float]] = []
        for loss, weight in zip(losses, weights, strict=True):
            if not isinstance(loss, keras.losses.Loss):
                raise TypeError(
                    "`losses` must be `keras.losses.Loss` instances. "
                    f"Received: losses={losses}"
                )
            weight = check_number("weights", weight)
            terms.extend(_flatten(loss, weight))
        self.losses = tuple(loss for loss, _ in terms)
        self.weights = tuple(weight for _, weight in terms)
        unreduced = {loss.reduction in (None, "none") for loss in self.losses}
        if len(unreduced) > 1:
            raise ValueError(
                '`losses` must all have `reduction="none"` or none of them. Received: '
                f"reductions={[loss.reduction for loss in self.losses]}"
            )
        ours = [loss for loss in self.losses if isinstance(loss, EmbeddingLoss)]
        super().__init__(
            reduction="none" if unreduced == {True} else "sum_over_batch_size",
            name=name or "_plus_".join(loss.name for loss in self.losses),
            dtype=dtype,
            gather=not ours or any(loss.gather for loss in ours),
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add up the terms."""
        with keras.name_scope(self.name):
            total = 0.0
            rows = self._pairwise_rows(y_true, y_pred, sample_weight)
            for number, (loss, weight) in enumerate(
                zip(self.losses, self.weights, strict=True)
            ):
                if number in rows:
                    assert isinstance(loss, PairwiseLoss)
                    value = loss.reduce(rows[number])
                else:
                    value = self._call(loss, y_true, y_pred, sample_weight)
                total = total + weight * ops.cast(value, self.dtype)
            return total

    def _call(
        self, loss: keras.losses.Loss, y_true: Any, y_pred: Any, sample_weight: Any
    ) -> Any:
        """Call a term as Keras would, but on the global batch if it needs that."""
        # Some Keras losses multiply their mask into the weights in place.
        own = None if sample_weight is None else ops.copy(sample_weight)
        replicas = None
        if not isinstance(loss, EmbeddingLoss):
            replicas = self.replicas(y_pred)
        if replicas is None:
            return loss(y_true, y_pred, own)
        arguments = [ops.convert_to_tensor(x) for x in (y_true, y_pred)]
        if own is not None:
            arguments.append(ops.convert_to_tensor(own))
        joined, first = replicas.gather(arguments)
        value = loss(*joined)
        if len(value.shape) > 0:
            size = ops.shape(y_pred)[0]
            return ops.take(value, first + ops.arange(size, dtype="int32"), axis=0)
        if loss.reduction == "sum":
            # Each replica has the whole sum; means are scaled by Keras itself.
            value = value * (replicas.gradient_scale / replicas.count)
        return value

    def _pairwise_rows(
        self, y_true: Any, y_pred: Any, sample_weight: Any
    ) -> dict[int, Any]:
        """Rows of the pairwise terms by number; those that can share a pass do."""
        passes: dict[tuple[Any, ...], dict[int, PairwiseLoss]] = {}
        arguments = {}
        for number, loss in enumerate(self.losses):
            if isinstance(loss, PairwiseLoss):
                own = loss.standardize(y_true, y_pred, sample_weight)
                kind = (
                    loss._compute_dtype,
                    len(own[0].shape),
                    loss.has_class_labels,
                    loss.gather,
                )
                passes.setdefault(kind, {})[number] = loss
                arguments[kind] = own
        rows: dict[int, Any] = {}
        for kind, losses in passes.items():
            terms = list(losses.values())
            terms[0]._look_at(*arguments[kind][:2])
            found = pairwise_rows(terms, *arguments[kind])
            rows |= dict(zip(losses, found, strict=True))
        return rows

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Add up the terms, without instance weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "losses": [keras.saving.serialize_keras_object(x) for x in self.losses],
            "weights": list(self.weights),
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the sum, and its terms, from the configuration."""
        terms = [keras.saving.deserialize_keras_object(x) for x in config["losses"]]
        return cls(**{**config, "losses": terms})


def _flatten(
    loss: keras.losses.Loss, weight: float
) -> list[tuple[keras.losses.Loss, float]]:
    if not isinstance(loss, WeightedSum):
        return [(loss, weight)]
    inner = zip(loss.losses, loss.weights, strict=True)
    return [(term, weight * factor) for term, factor in inner]
