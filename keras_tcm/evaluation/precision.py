"""Full float32 matrix products on devices that round their inputs by default."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute matrix products in float32 proper inside the block.

    GPUs (TF32) and TPUs (bfloat16) may round the inputs of a float32 product to 8 to
    11 bits, which moves cosine similarities by up to 1e-2.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "tensorflow":
        import tensorflow as tf

        config = tf.config.experimental
        enabled = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(enabled)
    elif backend == "torch":
        import torch

        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
    else:
        yield
