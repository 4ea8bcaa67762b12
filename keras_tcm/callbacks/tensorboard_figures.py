"""Figures of evaluations, for TensorBoard."""

import os
from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.evaluation import Evaluation

if TYPE_CHECKING:
    import matplotlib.figure

_DPI = 100


class TensorBoardFigures:
    """Writes figures of evaluations to the logs of TensorBoard.

    Args:
        log_dir: Folder of the logs; made if missing.

    Raises:
        ImportError: If TensorFlow, TensorBoard or matplotlib is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            import matplotlib  # noqa: F401
            from tensorflow import summary

            self._writer = summary.create_file_writer(os.fspath(log_dir))
        except (ImportError, AttributeError) as error:
            # Without TensorBoard, TensorFlow has nothing in its `summary`.
            raise ImportError(
                "`log_dir` needs TensorFlow, TensorBoard and matplotlib: "
                "pip install tensorflow tensorboard matplotlib"
            ) from error
        self._summary = summary

    def write(self, evaluation: Evaluation, step: int, threshold: float) -> None:
        """Write the utility curves and the error rates.

        Args:
            evaluation: What to draw.
            step: The epoch, counted from 0 as TensorBoard does.
            threshold: Distance to mark; NaN for none.
        """
        from matplotlib.figure import Figure

        from keras_tcm.visualization import plot_error_rates, plot_utility

        marked = None if np.isnan(threshold) else threshold
        for name, plot in ("utility", plot_utility), ("error_rates", plot_error_rates):
            # Not one of pyplot, which would keep it open.
            figure = Figure(figsize=(7, 4.6), dpi=_DPI, layout="constrained")
            plot(evaluation, ax=figure.subplots(), threshold=marked)
            with self._writer.as_default():
                self._summary.image(name, _pixels(figure)[None], step=step)

    def flush(self) -> None:
        """Hand everything over to the file."""
        self._writer.flush()


def _pixels(figure: "matplotlib.figure.Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
