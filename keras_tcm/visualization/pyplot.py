"""The plotting library, which need not be installed."""

from typing import Any


def pyplot() -> Any:
    """Return `matplotlib.pyplot`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Figures need matplotlib: pip install "keras-tcm[viz]"'
        ) from error
    return plt
