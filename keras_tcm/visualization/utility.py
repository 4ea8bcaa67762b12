"""Utility curves of all classes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.evaluation import Evaluation
from keras_tcm.ops.curves import mean_over_range, num_worst_classes
from keras_tcm.visualization.palette import BLUE, VERMILION, foreground
from keras_tcm.visualization.pyplot import pyplot
from keras_tcm.visualization.threshold_axis import (
    axis_limits,
    check_threshold,
    known_utility,
    label_thresholds,
    mark_threshold,
    shade_calibration_range,
)

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# Above so many classes, lines would merge into one area.
_MAX_CLASS_LINES = 500
# Of so many classes, the worst ones still have a line each.
_MAX_WORST_LINES = 100
# Shares of the classes in the bands, and how strongly these are drawn.
_BANDS = ((0.9, 0.2), (0.5, 0.4))


def plot_utility(
    evaluation: Evaluation,
    ax: "matplotlib.axes.Axes | None" = None,
    threshold: float | None = None,
) -> "matplotlib.axes.Axes":
    """Draw the utility of every class against the distance threshold.

    The closer the curves lie together, the better one threshold serves all classes.
    The worst classes, those that epsilon-OPIS compares with the others, are dashed. The
    calibration range, which OPIS is about, is shaded.

    Of more than 500 classes, bands show where the middle 50% and 90% of all classes
    lie at each threshold, and no more than the 100 worst have a curve of their own.

    Args:
        evaluation: What to draw.
        ax: Axes to draw on. Defaults to new ones.
        threshold: A distance to mark, such as the `threshold` of an operating point.
            If it lies outside the calibration range, the axes reach out to it, with
            the curves as far as the evaluation knows them. Defaults to `None`.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `threshold` is not a number.
        ValueError: If `threshold` is not a distance, in [0, 2]; NaN, for example, which
            stands for an unresolved operating point.

    Example:

    >>> ax = keras_tcm.visualization.plot_utility(
    ...     result, threshold=result.operating_points[1].threshold)
    """
    plt = pyplot()
    threshold = check_threshold(threshold)
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    low, high = axis_limits(*evaluation.calibration_range, threshold)
    thresholds, utility = known_utility(evaluation)
    # And one more at either end, beyond the border of the axes.
    first, last = np.searchsorted(thresholds, [low, high])
    shown = slice(max(first - 1, 0), last + 1)
    thresholds, utility = thresholds[shown], utility[:, shown]

    shade_calibration_range(ax, evaluation)
    num_classes = len(utility)
    order = np.argsort(mean_over_range(evaluation.utility), kind="stable")
    num_worst = num_worst_classes(num_classes, evaluation.epsilon)
    worst_label = f"worst {evaluation.epsilon:.0%} of classes"
    if num_classes <= _MAX_CLASS_LINES:
        others = order[num_worst:]
        _draw_curves(ax, thresholds, utility[others], BLUE, "solid", "classes")
    else:
        _draw_bands(ax, thresholds, utility)
        if num_worst > _MAX_WORST_LINES:
            num_worst = _MAX_WORST_LINES
            worst_label = f"{num_worst} worst classes"
    worst = order[:num_worst]
    _draw_curves(ax, thresholds, utility[worst], VERMILION, "dashed", worst_label)
    ax.plot(
        thresholds,
        utility.mean(axis=0),
        color=foreground(),
        linewidth=2.5,
        label="mean class",
    )
    mark_threshold(ax, threshold)
    ax.set(
        xlim=(low, high),
        ylim=(np.floor(10 * utility.min()) / 10, 1.01),
        ylabel="utility of the class",
        title=f"OPIS {evaluation.opis:.5f}, "
        f"{evaluation.epsilon:.0%}-OPIS {evaluation.epsilon_opis:.4f}",
    )
    label_thresholds(ax, evaluation)
    ax.legend(loc="lower right", framealpha=0.9, fontsize="small")
    return ax


def _draw_curves(
    ax: "matplotlib.axes.Axes",
    thresholds: np.ndarray,
    utility: np.ndarray,
    color: str,
    style: str,
    label: str,
) -> None:
    from matplotlib.collections import LineCollection

    # Many lines must not merge into a solid area.
    alpha = float(np.clip(5 / np.sqrt(len(utility)), 0.25, 0.8))
    width = float(np.clip(9 / np.sqrt(len(utility)), 0.8, 1.8))
    curves = np.stack([np.broadcast_to(thresholds, utility.shape), utility], axis=-1)
    ax.add_collection(
        LineCollection(
            list(curves), colors=color, linewidths=width, linestyles=style, alpha=alpha
        )
    )
    # The legend shows the colour without the transparency.
    ax.plot([], [], color=color, linestyle=style, linewidth=2, label=label)


def _draw_bands(
    ax: "matplotlib.axes.Axes", thresholds: np.ndarray, utility: np.ndarray
) -> None:
    for share, alpha in _BANDS:
        ax.fill_between(
            thresholds,
            *np.quantile(utility, [0.5 - share / 2, 0.5 + share / 2], axis=0),
            color=BLUE,
            alpha=alpha,
            linewidth=0,
            label=f"middle {share:.0%} of classes",
        )


def plot_utility_comparison(
    evaluations: Mapping[str, Evaluation],
) -> "matplotlib.figure.Figure":
    """Draw the utility curves of several models side by side.

    Each panel shows its own calibration range; the utility axis is shared.

    Args:
        evaluations: What to draw, by name, at least one.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `evaluations` is empty.

    Example:

    >>> figure = keras_tcm.visualization.plot_utility_comparison(
    ...     {"without TCM": result, "with TCM": result})
    """
    if not evaluations:
        raise ValueError("`evaluations` must not be empty. Received: evaluations={}")
    figure, axes = pyplot().subplots(
        1,
        len(evaluations),
        figsize=(5.2 * len(evaluations), 4.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    lower_limits = []
    for ax, (name, evaluation) in zip(axes[0], evaluations.items(), strict=True):
        plot_utility(evaluation, ax=ax)
        # A dollar sign in a name is not the start of a formula.
        ax.set_title(f"{name}\n{ax.get_title()}", parse_math=False)
        lower_limits.append(ax.get_ylim()[0])
    axes[0, 0].set_ylim(min(lower_limits))
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
        ax.get_legend().remove()
    return figure
