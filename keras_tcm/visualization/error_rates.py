"""False acceptance and rejection rates against the threshold."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.evaluation import CONFIDENCE, ErrorRates, Evaluation
from keras_tcm.visualization.palette import foreground, palette
from keras_tcm.visualization.pyplot import pyplot
from keras_tcm.visualization.threshold_axis import (
    axis_limits,
    check_threshold,
    label_thresholds,
    mark_threshold,
    shade_calibration_range,
)

if TYPE_CHECKING:
    import matplotlib.axes

# Shares of the classes in the bands, and how strongly these are drawn.
_BANDS = ((0.9, 0.18), (0.5, 0.36))
# The axis ends this far below the lowest rate of all pairs, but not below the second.
_BELOW = 3.0
_LOWEST = 1e-6


def plot_error_rates(
    evaluation: Evaluation,
    ax: "matplotlib.axes.Axes | None" = None,
    threshold: float | None = None,
) -> "matplotlib.axes.Axes":
    """Draw FAR and FRR, of all pairs and over the classes, against the threshold.

    Lines are the rates of all pairs; the bands around them hold the middle 50% and 90%
    of the classes at each threshold. The narrower the bands, the better one threshold
    serves all classes. Dots are the operating points, with intervals for other classes
    of the same kind, and a cross is the equal error rate where it lies within the
    thresholds known. The rates have a logarithmic axis;
    what is below it, such as 0, is drawn at its lower end. The calibration range is
    shaded.

    Args:
        evaluation: What to draw.
        ax: Axes to draw on. Defaults to new ones.
        threshold: A distance to mark, such as the `threshold` of an operating point;
            the axes reach out to it. Defaults to `None`.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `threshold` is not a number.
        ValueError: If `threshold` is no distance of the evaluation.

    Example:

    >>> ax = keras_tcm.visualization.plot_error_rates(result)
    """
    plt = pyplot()
    threshold = check_threshold(threshold, evaluation.distance)
    rates = evaluation.error_rates
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    shade_calibration_range(ax, evaluation)
    above_zero = np.concatenate([rates.far, rates.frr])
    above_zero = above_zero[above_zero > 0]
    bottom = max(above_zero.min(initial=1.0) / _BELOW, _LOWEST)
    colors = palette()
    for name, style, color, everything, per_class in (
        ("FAR", "solid", colors.orange, rates.far, rates.per_class_far),
        ("FRR", "dashed", colors.blue, rates.frr, rates.per_class_frr),
    ):
        for share, alpha in _BANDS:
            low, high = np.quantile(
                per_class, [0.5 - share / 2, 0.5 + share / 2], axis=0
            )
            ax.fill_between(
                rates.thresholds,
                np.maximum(low, bottom),
                np.maximum(high, bottom),
                color=color,
                alpha=alpha,
                linewidth=0,
            )
        ax.plot(
            rates.thresholds,
            np.maximum(everything, bottom),
            color=color,
            linestyle=style,
            linewidth=2.2,
            label=f"{name} of all pairs",
        )
    for share, alpha in _BANDS:
        # Once, and in a colour of neither rate.
        ax.fill(
            [],
            [],
            color=foreground(),
            alpha=alpha,
            linewidth=0,
            label=f"middle {share:.0%} of classes",
        )
    _mark_points(ax, evaluation, rates, bottom)
    mark_threshold(ax, threshold)
    ax.set(
        xlim=axis_limits(rates.thresholds[0], rates.thresholds[-1], threshold),
        yscale="log",
        ylim=(bottom, 1.2),
        ylabel="share of the pairs",
    )
    label_thresholds(ax, evaluation)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.legend(framealpha=0.9, fontsize="small")
    return ax


def _mark_points(
    ax: "matplotlib.axes.Axes",
    evaluation: Evaluation,
    rates: ErrorRates,
    bottom: float,
) -> None:
    """Mark operating points and the equal error rate, as far as they are in reach."""
    last = rates.thresholds[-1]
    points = [
        point
        for point in evaluation.operating_points
        if point.resolved and point.threshold <= last
    ]
    style: dict[str, Any] = {"linestyle": "none", "color": foreground(), "zorder": 3}
    if points:
        marked = [(x.threshold, max(y, bottom)) for x in points for y in (x.far, x.frr)]
        label = "operating points"
        spans = [
            (point.threshold, *np.maximum(point.intervals[name], bottom))
            for point in points
            if point.intervals is not None
            for name in ("far", "frr")
        ]
        if spans:
            at, low, high = np.transpose(spans)
            ax.vlines(at, low, high, color=foreground(), linewidth=1.5, zorder=3)
            label += f", {CONFIDENCE:.0%} intervals"
        ax.plot(*np.transpose(marked), "o", label=label, **style)
    # Increasing, as the FAR is and the FRR is not.
    excess = rates.far - rates.frr
    if excess[0] <= 0 <= excess[-1]:
        crossing = np.interp(0, excess, rates.thresholds)
        label = f"EER {evaluation.eer:.2%}"
        if evaluation.intervals is not None:
            label += " ({:.2%} to {:.2%})".format(*evaluation.intervals["eer"])
        ax.plot(crossing, max(evaluation.eer, bottom), "X", label=label, ms=9, **style)
