"""The base class of the metrics on embeddings."""

import sys
import types
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_tcm.distribution import active_replicas
from keras_tcm.ops.ring_buffer import write_rows
from keras_tcm.ops.similarity import l2_normalize
from keras_tcm.ops.tracing import is_traced
from keras_tcm.relevance import get_relevance
from keras_tcm.validation import check_integer


class EmbeddingMetric(keras.metrics.Metric):
    """Base class for metrics over all pairs of the samples seen since the last reset.

    The state is a ring buffer of unit vectors and labels, so an update costs the copy
    of a batch. `result` goes through all pairs, on the host. Keras asks for it after
    every step, and again at the end of an epoch: to the former it is NaN, as it must be
    inside a compiled step. Past `memory_size` samples the metric describes the most
    recent ones, and warns once.

    Where several devices share a batch, an update gathers it, and the memory is the
    same on every one of them.

    Subclasses implement `compute`.

    Args:
        memory_size: Samples kept, at least 2. Defaults to 8192.
        relevance: What makes a pair positive: a `keras_tcm.relevance.Relevance`, or a
            function of two label tensors. Defaults to `None`: equal labels.
        name: Name of the metric.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
    """

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
        self._seen = self._add_state((), "int32", "seen")
        self._embeddings: Any = None
        self._labels: Any = None
        self._has_warned = False

    def compute(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Compute the metric of the samples in memory.

        Args:
            embeddings: Finite unit vectors of shape `(n, d)`, `n >= 1`.
            labels: Shape `(n,)`, or what `relevance` compares, `(n, ...)`.

        Returns:
            The value, NaN where it is not defined.
        """
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Remember a batch.

        Args:
            y_true: Integer labels, shape `(batch,)` or `(batch, 1)`, or what
                `relevance` compares.
            y_pred: Embeddings of any norm, shape `(batch, d)`.
            sample_weight: Must be `None`: every pair counts once.
        """
        if sample_weight is not None:
            raise ValueError(
                "`sample_weight` must be None: every pair counts once. Give the metric "
                "in `metrics`, not in `weighted_metrics`. Received: sample_weight of "
                f"shape {tuple(ops.shape(sample_weight))}"
            )
        embeddings = ops.convert_to_tensor(y_pred)
        labels = ops.convert_to_tensor(y_true)
        if len(embeddings.shape) != 2:
            raise ValueError(
                "`y_pred` must have shape (batch, dimension). "
                f"Received: y_pred.shape={tuple(embeddings.shape)}"
            )
        if self.relevance is not None:
            self.relevance.check_labels("y_true", tuple(labels.shape))
        else:
            if len(labels.shape) == 2 and labels.shape[1] == 1:
                labels = labels[:, 0]
            if len(labels.shape) != 1:
                raise ValueError(
                    "`y_true` must have shape (batch,) or (batch, 1). "
                    f"Received: y_true.shape={tuple(labels.shape)}"
                )
        sizes = labels.shape[0], embeddings.shape[0]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(
                "`y_true` must have as many rows as `y_pred`, "
                f"{sizes[1]}. Received: y_true.shape={tuple(labels.shape)}"
            )
        if self._embeddings is None:
            self._build(embeddings.shape[1:], labels.shape[1:], ops.dtype(labels))
        for name, rows, memory in (
            ("y_pred", embeddings, self._embeddings),
            ("y_true", labels, self._labels),
        ):
            shape, kept = tuple(rows.shape), tuple(memory.shape)
            if shape[1:] != kept[1:]:
                raise ValueError(
                    f"`{name}` must keep its shape, {('batch', *kept[1:])}. "
                    f"Received: {name}.shape={shape}"
                )
        rows = [l2_normalize(embeddings), labels]
        replicas = active_replicas(embeddings)
        if replicas is not None:
            rows, _ = replicas.gather(rows)
        write_rows((self._embeddings, self._labels), rows, self._seen)

    def result(self) -> Any:
        """Return the metric: a scalar tensor.

        It is NaN where it is not defined, inside a compiled step, and when `fit` or
        `evaluate` asks right after a step.
        """
        seen = ops.convert_to_tensor(self._seen)
        if self._embeddings is None or is_traced(seen):
            return ops.convert_to_tensor(float("nan"), dtype=self.dtype)
        count = int(ops.convert_to_numpy(seen))
        if count == 0 or _is_asked_in_a_step():
            return ops.convert_to_tensor(float("nan"), dtype=self.dtype)
        if count > self.memory_size and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.name} has seen {count} samples, more than memory_size="
                f"{self.memory_size}: it describes the most recent {self.memory_size}.",
                stacklevel=2,
            )
        count = min(count, self.memory_size)
        embeddings = ops.convert_to_numpy(self._embeddings)[:count]
        labels = ops.convert_to_numpy(self._labels)[:count]
        value = float("nan")
        if np.isfinite(embeddings).all():
            value = self.compute(embeddings, labels)
        return ops.convert_to_tensor(value, dtype=self.dtype)

    def reset_state(self) -> None:
        """Forget all samples."""
        # What lies beyond the samples seen is never read.
        self._seen.assign(ops.zeros((), dtype="int32"))

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
            ops.convert_to_tensor(self._seen)
        )
        return [] if is_whole else super().variables

    def _add_state(self, shape: tuple[int, ...], dtype: str, name: str) -> Any:
        return self.add_variable(
            shape,
            "zeros",
            dtype=dtype,
            # Not their sum: all replicas write the same.
            aggregation="only_first_replica",
            name=name,
        )

    def _build(self, vector_shape: Any, label_shape: Any, label_dtype: str) -> None:
        shape = (self.memory_size, *vector_shape)
        self._embeddings = self._add_state(shape, "float32", "embeddings")
        # The widest integers that the backend has: a later batch may need them.
        if label_dtype == "bool" or keras.backend.is_int_dtype(label_dtype):
            label_dtype = "int32" if keras.backend.backend() == "jax" else "int64"
        shape = (self.memory_size, *label_shape)
        self._labels = self._add_state(shape, label_dtype, "labels")


def _is_asked_in_a_step() -> bool:
    """Whether the caller's caller is a step of Keras's training loop."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        if not frame.f_globals.get("__name__", "").startswith("keras.src.trainers"):
            return False
        if frame.f_code.co_name == "compute_metrics":
            return True
        frame = frame.f_back
    return False
