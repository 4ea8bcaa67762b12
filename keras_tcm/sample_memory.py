"""The newest samples of a stream, in variables of a metric or of a model."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_tcm.distribution import active_replicas
from keras_tcm.ops.integers import as_integer, widest_integer
from keras_tcm.ops.similarity import l2_normalize


class SampleMemory:
    """A ring of embeddings, with their labels and, if wanted, their weights.

    Where several devices share a batch, each of them writes the global one, and all
    have the same memory.

    Args:
        size: Samples kept.
        add_variable: Makes a variable of the owner's that starts at 0, from a name, a
            shape and a dtype. What several replicas write must be taken from one.

    Attributes:
        embeddings: Variable of shape `(size, ...)`, once there is one.
        labels: Variable of shape `(size, ...)`.
        weights: Variable of shape `(size,)`, where samples have weights.
    """

    def __init__(
        self, size: int, add_variable: Callable[[str, tuple[int, ...], str], Any]
    ) -> None:
        self.size = size
        self.embeddings: Any = None
        self.labels: Any = None
        self.weights: Any = None
        self._add_variable = add_variable
        # Samples written, less whole turns of a ring that is full: `size` at most as
        # long as none is lost, then more, but never over twice as many.
        self._written = add_variable("written", (), "int32")

    def build(
        self,
        embedding_shape: tuple[int, ...],
        label_shape: tuple[int, ...] = (),
        label_dtype: str = "int32",
        has_weights: bool = False,
    ) -> None:
        """Make the variables.

        Args:
            embedding_shape: Shape of the embedding of one sample, `(d,)`, or `(2, d)`
                of two towers.
            label_shape: Shape of the label of one sample. Defaults to `()`.
            label_dtype: Dtype of labels. Integers of any are kept as the widest that
                the backend has: a later batch may need them. Defaults to `"int32"`.
            has_weights: Whether samples have weights. Defaults to `False`.
        """
        if label_dtype == "bool" or keras.backend.is_int_dtype(label_dtype):
            label_dtype = widest_integer()
        rows = (self.size,)
        self.embeddings = self._add_variable(
            "embeddings", (*rows, *embedding_shape), "float32"
        )
        self.labels = self._add_variable("labels", (*rows, *label_shape), label_dtype)
        if has_weights:
            self.weights = self._add_variable("weights", rows, "float32")

    @property
    def is_empty(self) -> Any:
        """Whether nothing has been written: a boolean scalar, traced or not."""
        return ops.equal(ops.convert_to_tensor(self._written), 0)

    @property
    def count(self) -> int:
        """Samples in memory. It takes values: none inside a compiled step."""
        return min(self._num_written, self.size)

    @property
    def has_lost(self) -> bool:
        """Whether samples were written over. It takes values, as `count` does."""
        return self._num_written > self.size

    @property
    def _num_written(self) -> int:
        return int(ops.convert_to_numpy(self._written))

    def write(self, embeddings: Any, labels: Any, weights: Any = None) -> list[Any]:
        """Write a batch over the oldest samples.

        Args:
            embeddings: Tensor of shape `(batch, ...)`, of any norm.
            labels: Tensor of shape `(batch, ...)`.
            weights: Tensor of shape `(batch,)`, where samples have weights.

        Returns:
            As many tensors: the global batch, its embeddings as unit vectors without a
            gradient. The end of it remains in a memory that is smaller.
        """
        rows = [ops.stop_gradient(l2_normalize(embeddings)), labels]
        variables = [self.embeddings, self.labels]
        if weights is not None:
            rows.append(weights)
            variables.append(self.weights)
        replicas = active_replicas(embeddings)
        if replicas is not None:
            rows, _ = replicas.gather(rows)
        size = as_integer(self.size)
        num_kept = ops.shape(rows[0][-self.size :])[0]
        end = ops.convert_to_tensor(self._written) + ops.shape(rows[0])[0]
        places = end - num_kept + ops.arange(num_kept, dtype="int32")
        places = ops.mod(places, size)[:, None]
        for variable, x in zip(variables, rows, strict=True):
            x = ops.cast(x[-self.size :], variable.dtype)
            # On JAX a variable itself cannot be updated so.
            old = ops.convert_to_tensor(variable)
            variable.assign(ops.scatter_update(old, places, x))
        in_second_turn = size + as_integer(1) + ops.mod(end - as_integer(1), size)
        self._written.assign(ops.minimum(end, in_second_turn))
        return rows

    def check_shapes(self, embeddings: Any, labels: Any, hint: str = "") -> None:
        """Raise unless a batch has rows of the shape of those that are kept.

        Args:
            embeddings: Tensor of shape `(batch, ...)`.
            labels: Tensor of shape `(batch, ...)`.
            hint: What to do about it, after the shape in the message.
        """
        for name, rows, variable in (
            ("y_pred", embeddings, self.embeddings),
            ("y_true", labels, self.labels),
        ):
            shape, kept = tuple(rows.shape), tuple(variable.shape)
            if shape[1:] != kept[1:]:
                expected = ", ".join(map(str, ("batch", *kept[1:])))
                raise ValueError(
                    f"`{name}` must have the shape of what is remembered, "
                    f"({expected}){hint}. Received: {name}.shape={shape}"
                )

    def clear(self) -> None:
        """Forget all samples: what lies beyond those written is not read."""
        self._written.assign(ops.zeros((), dtype="int32"))
