"""The base class of the metrics on embeddings."""

import math
import warnings
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_tcm._keras_internals import set_direction
from keras_tcm.distribution import active_replicas
from keras_tcm.labels import ONE_HOT, label_tensor
from keras_tcm.ops.tracing import is_traced
from keras_tcm.relevance import get_relevance
from keras_tcm.sample_memory import SampleMemory
from keras_tcm.validation import (
    as_vector,
    check_embedding_shape,
    check_integer,
    tensor_shape,
)

# Samples of a batch whose pairs are looked at in a step.
_MAX_BATCH = 1024


class EmbeddingMetric(keras.metrics.Metric):
    """Base class for metrics over all pairs of the samples seen since the last reset.

    The state is a ring buffer of unit vectors and labels, so an update costs the copy
    of a batch. `result` goes through all pairs, on the host. Past `memory_size` samples
    the metric describes the most recent ones, and warns once.

    Keras asks for the result in every step, and again at the end of an epoch. All pairs
    cannot be looked at in a step, which may be compiled and is to be fast. So the
    update in the first step after a reset computes the metric of that batch alone,
    which is the whole answer of `train_on_batch` and `test_on_batch`; steps after it
    show the value that was computed last (in the first epoch, that of the first batch).
    What is not defined is shown in a step as `worst_value`: a NaN there would stop
    `jax_debug_nans` and TensorFlow's `enable_check_numerics`.

    On PyTorch, where steps are not compiled, an update of a model's metric with a
    tensor is taken for one in a step, and the first result after it shows as much. Who
    updates such a metric by hand gives NumPy arrays. Elsewhere, under
    `run_eagerly=True`, no step is told from a call by hand: each looks at all pairs.

    Of two towers, pairs are of a query and an item, also of the same row.

    Where several devices share a batch, an update gathers it, and the memory is the
    same on every one of them.

    Subclasses implement `compute` and `compute_in_step`.

    Args:
        memory_size: Samples kept, at least 2. Defaults to 8192.
        relevance: What makes a pair positive: a `keras_tcm.relevance.Relevance`, or a
            function of two label tensors. Defaults to `None`: equal labels.
        name: Name of the metric.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.

    Attributes:
        worst_value: The worst value that the metric can have.
        direction: Which way is better, for callbacks with `mode="auto"`.
    """

    worst_value: float
    direction: Literal["up", "down"]

    def __init__(
        self,
        memory_size: int = 8192,
        relevance: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.memory_size = check_integer("memory_size", memory_size, 2)
        self.relevance = get_relevance(relevance)
        # Where Keras looks for it.
        set_direction(self, self.direction)
        self._memory = SampleMemory(self.memory_size, self._add_state)
        self._shown = self._add_state("shown")
        # Below 0 where there is none.
        self._last_value = self._add_state("last_value", value=-1.0)
        self._has_warned = False
        self._is_in_model = False
        self._is_after_step = False

    def compute(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Compute the metric of the samples in memory.

        Args:
            embeddings: Finite unit vectors of shape `(n, d)` or `(n, 2, d)`, `n >= 1`.
            labels: Shape `(n,)`, or what `relevance` compares, `(n, ...)`.

        Returns:
            The value, NaN where it is not defined.
        """
        raise NotImplementedError

    def compute_in_step(self, embeddings: Any, labels: Any) -> Any:
        """Compute the metric of a batch with operations of the backend.

        Args:
            embeddings: Float32 tensor of unit vectors, shape `(batch, d)` or
                `(batch, 2, d)`.
            labels: Shape `(batch,)`, or what `relevance` compares, `(batch, ...)`.

        Returns:
            A float32 scalar that is never NaN: `worst_value` where it is not defined.
        """
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Remember a batch.

        Args:
            y_true: Integer labels, shape `(batch,)` or `(batch, 1)`, or what
                `relevance` compares. On JAX they must fit 32 bits unless
                `jax_enable_x64` is set: `fit` wraps larger ones unseen.
            y_pred: Embeddings of any norm, shape `(batch, d)`, or `(batch, 2, d)` of
                two towers: queries and gallery items.
            sample_weight: Must be `None`: every pair counts once.
        """
        if sample_weight is not None:
            shape = tensor_shape("sample_weight", ops.convert_to_tensor(sample_weight))
            raise ValueError(
                "`sample_weight` must be None: every pair counts once. Give the metric "
                "in `metrics`, not in `weighted_metrics`. Received: sample_weight of "
                f"shape {shape}"
            )
        embeddings = ops.convert_to_tensor(y_pred)
        check_embedding_shape("y_pred", tensor_shape("y_pred", embeddings))
        has_classes = self.relevance is None or self.relevance.has_class_labels
        labels = label_tensor("y_true", y_true, are_classes=has_classes)
        if self.relevance is not None:
            self.relevance.check_labels("y_true", tensor_shape("y_true", labels))
        else:
            labels = as_vector("y_true", labels, ONE_HOT)
        sizes = labels.shape[0], embeddings.shape[0]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(
                "`y_true` must have as many rows as `y_pred`, "
                f"{sizes[1]}. Received: y_true.shape={tuple(labels.shape)}"
            )
        memory = self._memory
        if memory.embeddings is None:
            memory.build(embeddings.shape[1:], labels.shape[1:], ops.dtype(labels))
        memory.check_shapes(embeddings, labels)
        is_first = memory.is_empty
        batch = memory.write(embeddings, labels)
        # Keras builds the metrics of a model with symbols.
        is_compiled = is_traced(embeddings)
        self._is_in_model = self._is_in_model or is_compiled
        self._is_after_step = (
            keras.backend.backend() == "torch"
            and self._is_in_model
            and ops.is_tensor(y_pred)
            and not is_compiled
        )
        if is_compiled or self._is_after_step:
            self._shown.assign(_uncompiled(self._value_in_step)(is_first, *batch))

    def _value_in_step(self, is_first: Any, embeddings: Any, labels: Any) -> Any:
        last_value = ops.convert_to_tensor(self._last_value)
        shown = ops.convert_to_tensor(self._shown)

        def of_batch() -> Any:
            newest = slice(-min(self.memory_size, _MAX_BATCH), None)
            vectors = ops.cast(embeddings[newest], "float32")
            # Without the NaN of a model that has diverged.
            is_finite = ops.all(ops.isfinite(vectors))
            vectors = ops.where(is_finite, vectors, 0.0)
            value = self.compute_in_step(vectors, labels[newest])
            return ops.where(is_finite, value, self.worst_value)

        return ops.cond(
            is_first,
            of_batch,
            lambda: ops.where(last_value < 0, shown, last_value),
        )

    def result(self) -> Any:
        """Return the metric: a scalar tensor.

        It is NaN where it is not defined. In a step of a model's training or
        evaluation, it is what the class description says.
        """
        shown = ops.convert_to_tensor(self._shown)
        if is_traced(shown) or self._is_after_step:
            # Who asks once more without another update is not the step.
            self._is_after_step = False
            return ops.cast(shown, self.dtype)
        value = self._compute()
        is_number = value == value
        self._last_value.assign(np.float32(value if is_number else -1.0))
        return ops.convert_to_tensor(value, dtype=self.dtype)

    def _compute(self) -> float:
        memory = self._memory
        kept = slice(memory.count)
        if not memory.count:
            return math.nan
        if memory.has_lost and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.name} has seen more than memory_size={self.memory_size} "
                f"samples: it describes the most recent {self.memory_size}.",
                stacklevel=3,
            )
        embeddings = ops.convert_to_numpy(memory.embeddings)[kept]
        labels = ops.convert_to_numpy(memory.labels)[kept]
        if not np.isfinite(embeddings).all():
            return math.nan
        return self.compute(embeddings, labels)

    def reset_state(self) -> None:
        """Forget all samples."""
        self._memory.clear()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "memory_size": self.memory_size,
            "relevance": keras.saving.serialize_keras_object(self.relevance),
        }

    @property
    def variables(self) -> list[Any]:
        """The state, as far as it is a part of a larger one.

        From 3.16 on, Keras on torch adds up all of it over the processes of a group;
        but each of them has the whole.
        """
        is_whole = keras.backend.backend() == "torch" and active_replicas(
            ops.convert_to_tensor(self._shown)
        )
        return [] if is_whole else super().variables

    def _add_state(
        self,
        name: str,
        shape: tuple[int, ...] = (),
        dtype: str = "float32",
        value: float = 0,
    ) -> Any:
        return self.add_variable(
            shape,
            keras.initializers.Constant(value),
            dtype=dtype,
            # Not their sum: all replicas write the same.
            aggregation="only_first_replica",
            name=name,
        )


def _uncompiled(function: Any) -> Any:
    """Keep PyTorch's compiler, which unrolls loops, away from a function."""
    if keras.backend.backend() != "torch":
        return function
    import torch

    return torch.compiler.disable(function)
