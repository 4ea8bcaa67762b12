"""Whether a tensor has a value yet."""

from typing import Any

import keras

from keras_tcm._keras_internals import computes_shapes_only


def is_traced(tensor: Any) -> bool:
    """Tell a tensor inside a compiled or symbolic function from one with a value."""
    if isinstance(tensor, keras.KerasTensor):
        return True
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend == "torch":
        import torch

        return (
            tensor.device.type == "meta"
            or torch.compiler.is_compiling()
            # Where an operation fails without values, Keras makes some up.
            or computes_shapes_only()
        )
    return False
