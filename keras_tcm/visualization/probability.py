"""The probability that a pair is of one class, against its distance."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.threshold import Threshold
from keras_tcm.visualization.palette import COLORS
from keras_tcm.visualization.pyplot import pyplot
from keras_tcm.visualization.threshold_axis import mark_threshold

if TYPE_CHECKING:
    import matplotlib.axes

_POINTS = 400


def plot_probability(
    threshold: Threshold,
    priors: Sequence[float] = (0.5, 0.01, 0.001),
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":
    """Draw the calibrated probability of a pair against its distance.

    Args:
        threshold: What to draw.
        priors: Shares of the pairs that are of one class, in (0, 1): one curve each.
        ax: Axes to draw on. Defaults to new ones.

    Returns:
        The axes, with the threshold marked.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a prior is out of range.

    Example:

    >>> ax = keras_tcm.visualization.plot_probability(threshold, priors=(0.5, 0.01))
    """
    plt = pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    last = float(threshold.calibration.distances[-1])
    first = min(0.0, float(threshold.calibration.distances[0]))
    distances = np.linspace(first, last, _POINTS)
    styles = ("solid", "dashed", "dotted", "dashdot")
    for number, prior in enumerate(priors):
        ax.plot(
            distances,
            threshold.probability(distances, prior=prior),
            linestyle=styles[number % len(styles)],
            color=COLORS[number % 2],
            linewidth=2,
            label=f"{prior:g} of the pairs of one class",
        )
    mark_threshold(ax, threshold.value)
    ax.set(
        xlim=(first, last),
        ylim=(0.0, 1.02),
        xlabel=f"{threshold.distance} distance",
        ylabel="probability of one class",
        title=(
            f"{threshold.calibration.kind} calibration, Cllr "
            f"{threshold.calibration.cllr:.3f} (at best "
            f"{threshold.calibration.min_cllr:.3f})"
        ),
    )
    ax.legend(framealpha=0.9, fontsize="small")
    return ax
