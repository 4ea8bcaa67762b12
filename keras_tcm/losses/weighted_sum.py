"""The weighted sum of losses, and the operators that make it."""

from collections.abc import Hashable, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_tcm.distribution import active_replicas
from keras_tcm.validation import check_number


class SummableLoss(keras.losses.Loss):
    """A loss with `+` and `*`, and with what a sum asks of its terms.

    Attributes:
        gather: Whether replicas that share a batch compute the loss together.
        has_pairs: Whether the loss compares the samples of a batch with each other.
    """

    gather: bool
    has_pairs: bool = False

    @property
    def kind(self) -> Hashable:
        """What losses have in common that a sum may compute together."""
        raise NotImplementedError

    def values_of(
        self, losses: Sequence[Any], y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> list[Any]:
        """Compute the values of several losses of one `kind`."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return _add_up((1.0, self), (1.0, other))

    def __radd__(self, other: Any) -> Any:
        # Where `sum` begins.
        if type(other) is int and other == 0:
            return self
        return _add_up((1.0, other), (1.0, self))

    def __mul__(self, factor: Any) -> Any:
        return _add_up((factor, self))

    __rmul__ = __mul__


@keras.saving.register_keras_serializable(package="keras_tcm")
class WeightedSum(SummableLoss):
    """Weighted sum of losses; what `a + b` and `0.5 * a` make.

    The pairwise terms of this package share one pass over the similarities. Every term
    from elsewhere is called as Keras would call it. Each term keeps its own reduction.
    Sums within sums are flattened.

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
        super().__init__(
            reduction="none" if unreduced == {True} else "sum_over_batch_size",
            name=name or "_plus_".join(loss.name for loss in self.losses),
            dtype=dtype,
        )
        ours = [loss for loss in self.losses if isinstance(loss, SummableLoss)]
        self.gather = not ours or any(loss.gather for loss in ours)
        self.has_pairs = any(loss.has_pairs for loss in ours)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add up the terms."""
        with keras.name_scope(self.name):
            total = 0.0
            values = self.values(y_true, y_pred, sample_weight)
            for value, weight in zip(values, self.weights, strict=True):
                total = total + weight * ops.cast(value, self.dtype)
            return total

    def values(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Any]:
        """Compute all terms, those of one kind together.

        Args:
            y_true: See the call arguments of the class, like all that follow.
            y_pred: See `y_true`.
            sample_weight: See `y_true`.

        Returns:
            The value of each term, without its weight in the sum.
        """
        groups: dict[Hashable, dict[int, keras.losses.Loss]] = {}
        for place, loss in enumerate(self.losses):
            kind = loss.kind if isinstance(loss, SummableLoss) else place
            groups.setdefault(kind, {})[place] = loss
        values: dict[int, Any] = {}
        for group in groups.values():
            first, *others = losses = list(group.values())
            if others and isinstance(first, SummableLoss):
                found = first.values_of(losses, y_true, y_pred, sample_weight)
            else:
                found = [self._call(first, y_true, y_pred, sample_weight)]
            values |= zip(group, found, strict=True)
        return [values[place] for place in range(len(self.losses))]

    def _call(
        self, loss: keras.losses.Loss, y_true: Any, y_pred: Any, sample_weight: Any
    ) -> Any:
        """Call a term as Keras would, but on the global batch if it needs that."""
        replicas = None
        if self.gather and not isinstance(loss, SummableLoss):
            replicas = active_replicas(y_pred)
        # Some Keras losses multiply their mask into the weights in place.
        weights = None if sample_weight is None else ops.copy(sample_weight)
        if replicas is None:
            return loss(y_true, y_pred, weights)
        arguments = [ops.convert_to_tensor(x) for x in (y_true, y_pred)]
        if weights is not None:
            arguments.append(ops.convert_to_tensor(weights))
        joined, first = replicas.gather(arguments)
        value = loss(*joined)
        if len(value.shape) > 0:
            size = ops.shape(y_pred)[0]
            return ops.take(value, first + ops.arange(size, dtype="int32"), axis=0)
        if loss.reduction == "sum":
            # Each replica has the whole sum; means are scaled by Keras itself.
            value = value * (replicas.gradient_scale / replicas.count)
        return value

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


def _add_up(*terms: tuple[Any, Any]) -> Any:
    weights, losses = zip(*terms, strict=True)
    if not all(isinstance(loss, keras.losses.Loss) for loss in losses):
        return NotImplemented
    if not all(
        isinstance(weight, int | float) and not isinstance(weight, bool)
        for weight in weights
    ):
        return NotImplemented
    return WeightedSum(losses, weights)
