"""Full float32 matrix products on devices that round their inputs by default."""

import contextlib
from typing import Any

import keras

from keras_tcm.evaluation.process_setting import ProcessSetting


def full_precision() -> contextlib.AbstractContextManager:
    """Compute matrix products in float32 proper inside a `with` block.

    GPUs (TF32) and TPUs (bfloat16) may round the inputs of a float32 product to 8 to
    11 bits, which moves cosine similarities by up to 1e-2.

    TensorFlow and PyTorch know one precision for all threads: others, too, compute
    in full precision until the last block is left.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # Of this thread alone.
        return jax.default_matmul_precision("highest")
    return _SETTINGS.get(backend, contextlib.nullcontext())


def _read_tensorflow() -> bool:
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def _write_tensorflow(enabled: bool) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(enabled)


def _read_torch() -> tuple[str | None, list[str | None]]:
    """The one precision of old, and those of single libraries (PyTorch 2.9)."""
    import torch

    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # The libraries have got others, which it cannot express.
        precision = None
    return precision, [
        getattr(matmul, "fp32_precision", None) for matmul in _torch_libraries()
    ]


def _write_torch(found: tuple[str | None, list[str | None]]) -> None:
    import torch

    precision, of_libraries = found
    if precision is not None:
        # It sets those of the libraries as well.
        torch.set_float32_matmul_precision(precision)
    for matmul, value in zip(_torch_libraries(), of_libraries, strict=True):
        if value is not None:
            matmul.fp32_precision = value


def _torch_libraries() -> list[Any]:
    import torch

    libraries = torch.backends.cuda, torch.backends.mkldnn
    return [getattr(library, "matmul", None) for library in libraries]


def _hold_torch() -> None:
    import torch

    torch.set_float32_matmul_precision("highest")


_SETTINGS = {
    "tensorflow": ProcessSetting(
        _read_tensorflow, _write_tensorflow, lambda: _write_tensorflow(False)
    ),
    "torch": ProcessSetting(_read_torch, _write_torch, _hold_torch),
}
