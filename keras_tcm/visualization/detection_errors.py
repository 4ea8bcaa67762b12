"""Detection error trade-off: FRR against FAR."""

from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.threshold import Threshold
from keras_tcm.visualization.palette import foreground, palette
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes

# Rates that are marked on both axes, in percent.
_TICKS = (0.001, 0.01, 0.1, 1, 5, 20, 50, 80, 95, 99)
# Rates beyond these are drawn at the edge.
_LOWEST, _HIGHEST = 1e-5, 0.995


def plot_detection_errors(
    threshold: Threshold, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the trade-off between FAR and FRR (DET), with the threshold on it.

    Both axes have the scale of normal quantiles (probit), on which the curve of two
    normal distributions is straight. The bands are the intervals of FRR and of FAR for
    other classes of the same kind; the cross is the threshold with both of its
    intervals, and dashed lines are what it promises.

    Args:
        threshold: What to draw.
        ax: Axes to draw on. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> ax = keras_tcm.visualization.plot_detection_errors(threshold)

    Reference:
        - Martin et al., *The DET curve in assessment of detection task performance*,
          Eurospeech 1997
    """
    plt = pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 5.2), layout="constrained")
    colors = palette()
    far, frr = _probit(threshold.curve_far), _probit(threshold.curve_frr)
    low, high = _probit(threshold.curve_frr_intervals).T
    percent = f"{threshold.confidence:.0%}"
    ax.fill_between(
        far,
        low,
        high,
        color=colors.blue,
        alpha=0.2,
        linewidth=0,
        label=f"{percent} interval of the FRR, other classes",
    )
    low, high = _probit(threshold.curve_far_intervals).T
    ax.fill_betweenx(
        frr,
        low,
        high,
        color=colors.orange,
        alpha=0.2,
        linewidth=0,
        label=f"{percent} interval of the FAR, other classes",
    )
    ax.plot(far, frr, color=foreground(), linewidth=2, label="all pairs")
    x, y = _probit(np.array([threshold.far, threshold.frr]))
    spans = _probit(np.array([threshold.far_interval, threshold.frr_interval]))
    ax.errorbar(
        [x],
        [y],
        xerr=np.abs(spans[0] - x)[:, None],
        yerr=np.abs(spans[1] - y)[:, None],
        fmt="X",
        color=foreground(),
        capsize=3,
        label=f"threshold {threshold.value:.4f}",
    )
    if threshold.far_target is not None:
        ax.axvline(
            float(_probit(threshold.far_target)), color=colors.orange, linestyle="--"
        )
    if threshold.frr_target is not None:
        ax.axhline(
            float(_probit(threshold.frr_target)), color=colors.blue, linestyle="--"
        )
    ticks = np.array(_TICKS) / 100.0
    names = [f"{tick:g}%" for tick in _TICKS]
    ends = [(values.min() - 0.1, values.max() + 0.1) for values in (far, frr)]
    ax.set_xticks(_probit(ticks), names)
    ax.set_yticks(_probit(ticks), names)
    ax.set(xlim=ends[0], ylim=ends[1], xlabel="FAR", ylabel="FRR")
    ax.legend(framealpha=0.9, fontsize="small")
    return ax


def _probit(rates: np.ndarray | float) -> np.ndarray:
    from scipy import special

    return special.ndtri(np.clip(rates, _LOWEST, _HIGHEST))
