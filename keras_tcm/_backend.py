"""The import of Keras, on a backend that is there.

One rule for whoever imports the package, and so for the command:

1. A backend that was named, by the environment variable `KERAS_BACKEND` or else in the
   file `keras.json` of Keras, is used, or refused where it cannot be.
2. Where none was, Keras takes TensorFlow. If that is not installed, and Keras would
   fail, the first of PyTorch and JAX that is installed takes its place: `KERAS_BACKEND`
   is set, for this process and those that it starts, with a warning that says so.

Keras itself writes `"backend": "tensorflow"` to a new `keras.json`, whatever backend it
runs on, so that counts as none.
"""

import importlib.util
import json
import os
import warnings
from pathlib import Path

from keras_tcm._keras_internals import backend_of_started_keras

# From the fastest at training convolutions on a CPU to the slowest.
BACKENDS = ("tensorflow", "torch", "jax")
_OF_KERAS = "tensorflow"
_OLDEST_KERAS = (3, 12)
_NEEDED = 'keras_tcm needs Keras 3.12 or later: pip install --upgrade "keras>=3.12"'


def import_keras() -> None:
    """Import Keras on the backend that the rule of this module gives.

    Raises:
        ImportError: If Keras or its backend is missing, unfit or broken. The message
            says what is installed and what to do.
    """
    if not _is_installed("keras"):
        raise ImportError(f"Keras is not installed. {_NEEDED}")
    backend = _choose()
    try:
        import keras
    except Exception as error:  # A broken installation fails in many ways.
        from importlib.metadata import version

        raise ImportError(
            f"Keras {version('keras')} cannot be imported on the backend {backend}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if tuple(map(int, keras.__version__.split(".")[:2])) < _OLDEST_KERAS:
        raise ImportError(f"Keras {keras.__version__} is installed. {_NEEDED}")


def _choose() -> str:
    """The backend that Keras is on, or will be."""
    named, source = _named()
    if named is not None and named in BACKENDS and _is_installed(named):
        return named
    installed = [name for name in BACKENDS if _is_installed(name)]
    if named is None and installed:
        _take(installed[0])
        return installed[0]
    package = 'pip install "keras-tcm[tensorflow]", or [torch], or [jax]'
    if named is None:
        problem = "No backend of Keras is installed"
    elif named in BACKENDS:
        problem = f"{source}, but {named} is not installed"
        package = f'pip install "keras-tcm[{named}]"'
    else:
        problem = f"{source}, but keras_tcm runs on {', '.join(BACKENDS)} only"
    if not installed:
        raise ImportError(f"{problem}. Type: {package}")
    others = f"{', '.join(installed)}. Set KERAS_BACKEND={installed[0]}"
    raise ImportError(
        f"{problem}. Installed: {others} in the environment"
        + (f", or type: {package}" if named in BACKENDS else "")
    )


def _take(backend: str) -> None:
    """Let Keras run on a backend that nobody named."""
    os.environ["KERAS_BACKEND"] = backend
    warnings.warn(
        f"Keras runs on {backend}: no backend was named, and {_OF_KERAS} is not "
        f"installed. Set KERAS_BACKEND={backend} in the environment to name it, also "
        "for programs that import Keras first",
        # From here to the import in the user's program.
        stacklevel=5,
    )


def _named() -> tuple[str | None, str]:
    """The backend that was named, if any, and how."""
    started = backend_of_started_keras()
    if started is not None:
        return started, (
            f"Keras is on {started} since it was first imported (start Python anew to "
            "change that)"
        )
    name = os.environ.get("KERAS_BACKEND")
    if name:
        return name, f"KERAS_BACKEND={name}"
    path = _keras_json()
    try:
        name = json.loads(path.read_text())["backend"]
    except (OSError, ValueError, LookupError, TypeError):
        name = _OF_KERAS
    if name == _OF_KERAS:
        return (name if _is_installed(name) else None), ""
    return name, f'{path} says "backend": {json.dumps(name)}'


def _keras_json() -> Path:
    """Where Keras looks for its settings."""
    folder = os.environ.get("KERAS_HOME")
    if folder is None:
        home = os.path.expanduser("~")
        folder = os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return Path(os.path.expanduser(folder), "keras.json")


def _is_installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    # A folder without code, such as what an uninstalled package left, has no origin.
    return spec is not None and spec.origin is not None
