"""Late imports of the packages that `keras_tcm.interop` adapts."""

import importlib
from typing import Any

import keras


def import_peer(module: str, backend: str, extra: str) -> Any:
    """Import a module of a peer where its losses can run.

    Args:
        module: Full name of the module.
        backend: The Keras backend that the peer is written in.
        extra: The extra of this package that installs the peer.

    Returns:
        The module.

    Raises:
        RuntimeError: If Keras runs on another backend.
        ImportError: If the peer is not installed.
    """
    package = module.partition(".")[0].replace("_", "-")
    active = keras.backend.backend()
    if active != backend:
        raise RuntimeError(
            f"Losses of {package} need the backend {backend!r}; a model that was saved "
            "with one loads with `keras.saving.load_model(path, compile=False)`. "
            f"Received: keras.backend.backend()={active!r}"
        )
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{package} is not installed: pip install "keras-tcm[{extra}]"'
        ) from error
