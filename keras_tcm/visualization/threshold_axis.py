"""The axis of distance thresholds, which several figures share."""

from typing import TYPE_CHECKING

from keras_tcm.evaluation import Evaluation, distance_range
from keras_tcm.validation import check_number
from keras_tcm.visualization.palette import foreground

if TYPE_CHECKING:
    import matplotlib.axes

# Distance to the border of the axes, as a share of what is shown.
_MARGIN = 0.04


def check_threshold(threshold: float | None, distance: str) -> float | None:
    """Return a distance of a measure, or `None`; raise for anything else."""
    if threshold is None:
        return None
    return check_number("threshold", threshold, *distance_range(distance))


def axis_limits(low: float, high: float, threshold: float | None) -> tuple[float, ...]:
    """Limits of an axis that shows a range of distances, and a threshold."""
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def shade_calibration_range(ax: "matplotlib.axes.Axes", evaluation: Evaluation) -> None:
    """Shade the thresholds that OPIS is about."""
    ax.axvspan(
        *evaluation.calibration_range,
        color=foreground(),
        alpha=0.09,
        linewidth=0,
        zorder=0,
        label="calibration range",
    )


def mark_threshold(ax: "matplotlib.axes.Axes", threshold: float | None) -> None:
    """Draw a threshold, unless it is `None`, as a vertical line."""
    if threshold is not None:
        ax.axvline(
            threshold,
            color=foreground(),
            linestyle=":",
            linewidth=2,
            label=f"threshold {threshold:.4f}",
        )


def label_thresholds(ax: "matplotlib.axes.Axes", evaluation: Evaluation) -> None:
    """Say what the axis shows."""
    ax.set_xlabel(f"threshold ({evaluation.distance} distance)")
