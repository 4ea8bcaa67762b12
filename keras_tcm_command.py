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
    if "KERAS_BACKEND" not in os.environ:
        installed = [name for name in _BACKENDS if importlib.util.find_spec(name)]
        if not installed:
            print(
                "keras-tcm: error: no Keras backend is installed: "
                'pip install "keras-tcm[tensorflow]", or [torch], or [jax]',
                file=sys.stderr,
            )
            return 2
        os.environ["KERAS_BACKEND"] = installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from keras_tcm.study.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
