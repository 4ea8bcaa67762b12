"""Entry point of the `keras-tcm` command: choose a backend, then start.

It lies outside the package because importing any part of the package imports Keras,
which fixes the backend.
"""

import importlib.util
import os
import sys

# From the fastest at training convolutions on a CPU to the slowest.
_BACKENDS = ("tensorflow", "torch", "jax")


def main() -> int:
    """Run `keras-tcm` on `KERAS_BACKEND`, or on the fastest backend installed."""
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in _BACKENDS:
        return _fail(f"KERAS_BACKEND must be one of {', '.join(_BACKENDS)}: {wanted}")
    candidates = (wanted,) if wanted else _BACKENDS
    installed = [name for name in candidates if importlib.util.find_spec(name)]
    if not installed:
        return _fail(
            f"no Keras backend is installed (looked for {', '.join(candidates)}): "
            'pip install "keras-tcm[tensorflow]", or [torch], or [jax]'
        )
    os.environ["KERAS_BACKEND"] = installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from keras_tcm.study.cli import main as run

    return run()


def _fail(message: str) -> int:
    print(f"keras-tcm: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
