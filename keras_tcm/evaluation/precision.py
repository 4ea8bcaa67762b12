"""Full float32 matrix products on devices that round their inputs by default."""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import keras


class ProcessSetting:
    """Holds a setting at one value while anybody is inside a `with` block.

    To put back on leaving what was found on entering would do only if blocks of
    several threads ended in the reverse order of their starts. Here the last to leave
    puts back what was found, unless somebody else has changed the setting since.

    Args:
        read: Returns the setting.
        write: Takes what `read` returned, and puts it back.
        hold: Sets the value that is needed.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        write: Callable[[Any], None],
        hold: Callable[[], None],
    ) -> None:
        self._read, self._write, self._hold = read, write, hold
        self._lock = threading.Lock()
        self._num_inside = 0
        self._found: Any = None
        self._held: Any = None

    def __enter__(self) -> None:
        with self._lock:
            now = self._read()
            if not self._num_inside or now != self._held:
                self._hold()
                self._found, self._held = now, self._read()
            self._num_inside += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside and self._read() == self._held:
                self._write(self._found)


def full_precision() -> contextlib.AbstractContextManager:
    """Compute matrix products in float32 proper inside a `with` block.

    GPUs (TF32) and TPUs (bfloat16) may round the inputs of a float32 product to 8 to
    11 bits, which moves cosine similarities by up to 1e-2.

    TensorFlow and PyTorch know one precision for all threads: others, too, compute
    in full precision until the last block is left.

    Example:

    >>> with keras_tcm.evaluation.full_precision():
    ...     product = keras.ops.matmul(np.ones((2, 3)), np.ones((3, 2)))
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
