"""Figures in files."""

import pathlib
from typing import Any

from keras_tcm.files import replacing
from keras_tcm.visualization.pyplot import pyplot


def save_figure(figure: Any, path: pathlib.Path, dpi: int = 120) -> None:
    """Write a figure to a PNG file, whole or not at all, and close it.

    Args:
        figure: The figure.
        path: The file; its folder must exist.
        dpi: Pixels an inch. Defaults to 120.
    """
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")
    pyplot().close(figure)
