"""Replicas of a strategy of `tf.distribute`."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_tcm.distribution.replicas import Replicas


class StrategyReplicas(Replicas):
    """The replicas of the strategy whose `run` is being executed.

    Args:
        context: The replica context.
    """

    # Gradients are added up, which is why Keras divides losses by the count.
    gradient_scale = 1.0

    def __init__(self, context: Any) -> None:
        self.count = context.num_replicas_in_sync
        self._context = context

    def gather(self, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
        """Join the parts of the global batch, in the order of the replicas."""
        size = tf.shape(tensors[0])[:1]
        sizes = self._context.all_gather(size, axis=0)
        is_earlier = tf.range(self.count) < self._context.replica_id_in_sync_group
        first = tf.reduce_sum(tf.where(is_earlier, sizes, 0))
        joined = [self._context.all_gather(x, axis=0) for x in tensors]
        for x, own in zip(joined, tensors, strict=True):
            # Which gathering forgets.
            x.set_shape((None, *own.shape[1:]))
        return joined, first

    def sum(self, value: Any) -> Any:
        """Add a tensor of the same shape in all replicas up, without gradient."""
        return self._context.all_reduce("SUM", tf.stop_gradient(value))


def active_replicas(tensor: Any) -> Replicas | None:
    """Find the replicas of the current step, if there are several."""
    # There is no context outside of `strategy.run`, as while Keras builds a model.
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return StrategyReplicas(context)
