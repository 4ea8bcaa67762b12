"""The replicas that share a batch, whatever the engine."""

import importlib
from collections.abc import Sequence
from typing import Any

import keras


class Replicas:
    """The replicas that compute one training step together.

    Every replica runs the same program on its part of the global batch. The methods
    are calls that all of them make, in the same order.

    Attributes:
        count: Number of replicas, at least 2.
        gradient_scale: Factor with which each replica's own share of a loss gives,
            after the engine has combined the gradients, that of the sum of the shares:
            1 where the engine adds them up, `count` where it averages.
    """

    count: int
    gradient_scale: float

    def gather(self, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
        """Join the parts of the global batch, in the order of the replicas.

        Differentiable: what all replicas do with a row adds up to the gradient of the
        replica that it comes from.

        Args:
            tensors: Tensors of shape `(batch, ...)`, with the same batch size, which
                may differ between replicas.

        Returns:
            As many tensors of shape `(global batch, ...)`, and the place of this
            replica's first row in them.
        """
        raise NotImplementedError

    def sum(self, value: Any) -> Any:
        """Add a tensor of the same shape in all replicas up, without gradient."""
        raise NotImplementedError


def active_replicas(tensor: Any) -> Replicas | None:
    """Find the replicas among which the current step is divided.

    Args:
        tensor: A tensor of the step, from which one without values is told.

    Returns:
        The replicas under a strategy of `tf.distribute` or an initialised process group
        of `torch.distributed`. `None` where there is one only, while Keras builds a
        model with tensors that have no values, and on JAX, where a
        `keras.distribution` lets the program see the global batch.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "torch") or isinstance(tensor, keras.KerasTensor):
        return None
    engine = importlib.import_module(f"keras_tcm.distribution.{backend}_backend")
    return engine.active_replicas(tensor)
