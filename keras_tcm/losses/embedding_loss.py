"""The base class of all losses of this package."""

import re
from collections.abc import Hashable, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_tcm.distribution import Replicas, active_replicas
from keras_tcm.labels import ONE_HOT, are_whole_numbers, label_tensor
from keras_tcm.losses.advice import Advice
from keras_tcm.losses.weighted_sum import SummableLoss
from keras_tcm.validation import as_vector, check_choice, tensor_shape

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class _Reduction(keras.losses.Loss):
    """Keras' own reduction, with its scaling under `tf.distribute`."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


class EmbeddingLoss(SummableLoss):
    """Base class for losses with integer labels and one row per sample.

    It differs from `keras.losses.Loss` where embeddings need it to:

    - labels are compared as the integers they are; Keras casts them to the loss
      dtype, in which class ids collide from 2^24 (float32) or 256 (bfloat16). Labels
      that the backend does not hold are refused where the loss sees what was given:
      in a call with arrays or lists. `fit` makes tensors of them before: on JAX,
      unless `jax_enable_x64` is set, of 32 bits, in which labels that differ by a
      multiple of 2^32 are the same class, and nothing can tell. Give labels below
      2^31 there, such as `np.unique(labels, return_inverse=True)[1]`;
    - the maths runs in float32 whatever the dtype policy (in float64 if `dtype`
      says so);
    - `sample_weight` reaches the rows, so that a pairwise loss can take a sample
      out of all its pairs;
    - losses add up: `loss + other`, `0.5 * loss`, `sum([loss, other])`, where `other`
      may be any `keras.losses.Loss`;
    - where several devices share a batch, value and gradient are those of the whole
      batch, whatever its division.

    Subclasses implement `rows`.

    Args:
        reduction: `"sum_over_batch_size"` or `"mean"` (the same), `"sum"` (batch
            size times that), `"mean_with_sample_weight"` or `"none"` (the rows,
            shape `(batch,)`). Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to the class name in snake case.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: Whether replicas, under a strategy of `tf.distribute` or in a process
            group of `torch.distributed`, compute the loss of the global batch
            together. All of them must call it then. `False` has each look at its own
            part alone. Without effect on one device, and on JAX, where a
            `keras.distribution` shows the global batch to every loss. Defaults to
            `True`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`. Floats must be whole
            numbers, and small enough that their type holds every one (below 2^24 in
            float32): an error where there are values to look at, NaN in a compiled
            step.
        y_pred: Floating-point tensor of shape `(batch, d)`.
        sample_weight: Optional non-negative weights, shape `(batch,)` or
            `(batch, 1)`.

    Warns:
        UserWarning: Once, if `y_pred` looks like the output of a softmax or, in a
            pairwise loss, if a batch has no positive or no negative pair. It takes
            values to see that: an eager call, which on PyTorch is any, of which the
            first 8 are looked at, and some later ones.

    Raises:
        ValueError: If `y_true`, `y_pred` or `sample_weight` has another rank or
            another number of samples, a label is missing or not held by the backend,
            or if `reduction` is unknown.
        TypeError: If labels are text, or no numbers.

    Example:

    ```python
    class PullToCentre(keras_tcm.losses.EmbeddingLoss):
        def rows(self, labels, predictions, weights):
            return weights * keras.ops.sum(keras.ops.square(predictions), axis=-1)
    ```
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        reduction = "none" if reduction is None else reduction
        check_choice("reduction", reduction, REDUCTIONS)
        check_choice("gather", gather, (True, False))
        if name is None:
            name = re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.gather = gather
        self._compute_dtype = "float64" if self.dtype == "float64" else "float32"
        self._reduce = _Reduction(
            # The rows carry the instance weights already.
            reduction="mean" if reduction == "mean_with_sample_weight" else reduction,
            # The default, which has an underscore first, is no scope on TensorFlow.
            name="reduction",
            dtype=self._compute_dtype,
        )
        self._advice = Advice(self.name)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute one weighted value per sample whose plain mean is the loss.

        Where replicas share a batch, the mean over all of their rows is the loss.

        Args:
            labels: Integer tensor of shape `(batch,)`.
            predictions: Tensor of shape `(batch, d)` in the compute dtype.
            weights: Instance weights of shape `(batch,)` in the compute dtype.

        Returns:
            Tensor of shape `(batch,)`.
        """
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Rows without instance weights, shape `(batch,)`."""
        return self.rows(*self.standardize(y_true, y_pred))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss; see the call arguments of the class."""
        with keras.name_scope(self.name):
            return self.values_of([self], y_true, y_pred, sample_weight)[0]

    @property
    def kind(self) -> Hashable:
        """What losses have in common that a sum may compute together."""
        # Not the loss itself: Keras looks for what to save in all attributes.
        return id(self)

    def values_of(
        self, losses: Sequence[Any], y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> list[Any]:
        """Compute the values of several losses of one `kind`, as a sum asks for them.

        Args:
            losses: The losses, this one first.
            y_true: See the call arguments of the class, like all that follow.
            y_pred: See `y_true`.
            sample_weight: See `y_true`.

        Returns:
            One value for each loss, reduced as it wants.
        """
        arguments = self.standardize(y_true, y_pred, sample_weight)
        self._look_at(*arguments[:2])
        rows = self.rows_of(losses, *arguments)
        return [loss.reduce(each) for loss, each in zip(losses, rows, strict=True)]

    def rows_of(
        self, losses: Sequence[Any], labels: Any, predictions: Any, weights: Any
    ) -> list[Any]:
        """Compute the rows of several losses of one `kind`.

        Args:
            losses: The losses, this one first.
            labels: See `rows`, like all that follow.
            predictions: See `labels`.
            weights: See `labels`.

        Returns:
            A tensor of shape `(batch,)` for each loss.
        """
        return [loss.rows(labels, predictions, weights) for loss in losses]

    def standardize(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tuple[Any, Any, Any]:
        """Check the call arguments and bring them into one form.

        Returns:
            Labels `(batch,)`, predictions `(batch, d)` and weights `(batch,)`.
        """
        predictions = ops.cast(ops.convert_to_tensor(y_pred), self._compute_dtype)
        shape = tensor_shape("y_pred", predictions)
        self.check_predictions(shape)
        batch = shape[0]
        labels = label_tensor("y_true", y_true, are_classes=self.has_class_labels)
        labels = self.standardize_labels(labels, batch)
        if sample_weight is None:
            weights = ops.ones_like(predictions[(slice(None), *[0] * len(shape[1:]))])
        else:
            weights = ops.cast(
                ops.convert_to_tensor(sample_weight), self._compute_dtype
            )
            weights = as_vector("sample_weight", weights)
            check_rows("sample_weight", tuple(weights.shape), batch)
        if self.has_class_labels and keras.backend.is_float_dtype(labels.dtype):
            # A compiled step cannot raise, but must not take classes for one either.
            is_whole = are_whole_numbers(labels)
            if len(is_whole.shape) == 2:
                is_whole = ops.all(is_whole, axis=1)
            weights = ops.where(is_whole, weights, float("nan"))
        return labels, predictions, weights

    def check_predictions(self, shape: tuple[int | None, ...]) -> None:
        """Raise unless `y_pred` has a shape that the loss takes."""
        if len(shape) != 2:
            raise ValueError(
                "`y_pred` must have shape (batch, dimension). "
                f"Received: y_pred.shape={shape}"
            )

    def standardize_labels(self, labels: Any, batch: int | None) -> Any:
        """Check `y_true` and bring it into one form.

        Args:
            labels: Tensor.
            batch: Number of samples, if known.

        Returns:
            Labels of shape `(batch,)`.
        """
        labels = as_vector("y_true", labels, ONE_HOT)
        check_rows("y_true", tuple(labels.shape), batch)
        return labels

    @property
    def has_class_labels(self) -> bool:
        """Whether `y_true` are classes, which are equal or not."""
        return True

    def _look_at(self, labels: Any, predictions: Any) -> None:
        """Raise, or warn once, of what the values show to be a mistake, if any are.

        Args:
            labels: What `standardize` returns.
            predictions: Likewise.
        """
        if self.has_class_labels:
            self._advice.look_at_labels(labels)
        self._advice.look_at_predictions(predictions)

    def average(self, losses: Any, weights: Any) -> Any:
        """Weigh per-sample losses so that their mean follows `reduction`.

        Args:
            losses: Tensor of shape `(batch,)`.
            weights: Instance weights of shape `(batch,)`.

        Returns:
            Rows of shape `(batch,)`: `weights * losses`, and for
            `"mean_with_sample_weight"` divided by the mean weight.
        """
        rows = weights * losses
        if self.reduction == "mean_with_sample_weight":
            weight, samples = self.totals(weights, ops.ones_like(weights))
            rows = rows * (samples / ops.where(weight > 0, weight, 1.0))
        return rows

    def replicas(self, tensor: Any) -> Replicas | None:
        """The replicas with which to compute the loss, if there are others.

        Args:
            tensor: A tensor of the computation.
        """
        return active_replicas(tensor) if self.gather else None

    def totals(self, *values: Any) -> tuple[Any, ...]:
        """Add tensors of shape `(batch,)` up over the global batch, without gradient.

        Args:
            *values: The tensors.

        Returns:
            As many scalars.
        """
        sums = [ops.sum(value) for value in values]
        replicas = self.replicas(sums[0])
        if replicas is None:
            return tuple(sums)
        total = replicas.sum(ops.stack(sums))
        return tuple(total[number] for number in range(len(sums)))

    def reduce(self, rows: Any) -> Any:
        """Reduce rows to the value that the loss returns."""
        replicas = self.replicas(rows)
        if replicas is None:
            return ops.cast(self._reduce(rows, rows), self.dtype)
        scale = replicas.gradient_scale
        if self.reduction != "sum":
            (samples,) = self.totals(ops.ones_like(rows))
            scale = scale / samples
        if self.reduction == "none":
            # The engine averages over what each replica makes of its rows.
            size = ops.cast(ops.shape(rows)[0], rows.dtype)
            return ops.cast(rows * (replicas.count * size / samples), self.dtype)
        share = scale * ops.sum(rows)
        # The gradient of the share, but the same value everywhere: however unevenly
        # the batch is divided, what is logged is right.
        value = replicas.sum(share) / replicas.count
        return ops.cast(share + ops.stop_gradient(value - share), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "dtype": self.dtype, "gather": self.gather}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the loss from its configuration."""
        return cls(**config)


def check_rows(name: str, shape: tuple[int | None, ...], batch: int | None) -> None:
    """Raise if an argument is known to have another number of samples than `y_pred`."""
    if None not in (shape[0], batch) and shape[0] != batch:
        raise ValueError(
            f"`{name}` must have as many rows as `y_pred`, {batch}. "
            f"Received: {name}.shape={shape}"
        )
