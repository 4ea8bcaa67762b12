"""Utility curves of all classes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.evaluation import Evaluation
from keras_tcm.ops.curves import mean_over_range
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
    import matplotlib.figure

# Above so many classes, lines would merge into one area.
_MAX_CLASS_LINES = 500
# Of so many classes, the worst ones still have a line each.
_MAX_WORST_LINES = 100
# Shares of the classes in the bands, and how strongly these are drawn.
_BANDS = ((0.9, 0.2), (0.5, 0.4))
_LEGEND_STYLE: dict[str, Any] = {"frameon": False, "fontsize": "small"}
# Size of a panel of a comparison, in inches.
_PANEL = (3.6, 4.0)


def plot_utility(
    evaluation: Evaluation,
    ax: "matplotlib.axes.Axes | None" = None,
    threshold: float | None = None,
) -> "matplotlib.axes.Axes":
    """Draw the utility of every class against the distance threshold.

    The closer the curves lie together, the better one threshold serves all classes.
    The worst classes, those that epsilon-OPIS compares with the others, are dashed. The
    calibration range, which OPIS is about, is shaded; OPIS has its 95% interval for
    other classes of the same kind beside it. The legend stands below the axes,
    where it hides no class: `layout="constrained"` gives it room in a figure of yours.

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
        ValueError: If `threshold` is no distance of the evaluation; NaN, for example,
            which stands for an unresolved operating point.

    Example:

    >>> ax = keras_tcm.visualization.plot_utility(
    ...     result, threshold=result.operating_points[1].threshold)
    """
    plt = pyplot()
    threshold = check_threshold(threshold, evaluation.distance)
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    limits = axis_limits(*evaluation.calibration_range, threshold)
    _draw_utility(ax, evaluation, limits, threshold)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, **_LEGEND_STYLE)
    return ax


def _draw_utility(
    ax: "matplotlib.axes.Axes",
    evaluation: Evaluation,
    limits: tuple[float, ...],
    threshold: float | None,
) -> None:
    """Draw everything but the legend, as far as the limits of the thresholds."""
    low, high = limits
    thresholds, utility = evaluation.utility_curves()
    # And one more at either end, beyond the border of the axes.
    first, last = np.searchsorted(thresholds, [low, high])
    shown = slice(max(first - 1, 0), last + 1)
    thresholds, utility = thresholds[shown], utility[:, shown]

    colors = palette()
    shade_calibration_range(ax, evaluation)
    num_classes = len(utility)
    num_worst = len(evaluation.worst_classes(by="utility"))
    order = evaluation.worst_classes(num_classes, by="utility")
    worst_label = f"worst {evaluation.epsilon:.0%} of classes"
    if num_classes <= _MAX_CLASS_LINES:
        others = order[num_worst:]
        _draw_curves(ax, thresholds, utility[others], colors.blue, "solid", "classes")
    else:
        _draw_bands(ax, thresholds, utility, colors.blue)
        if num_worst > _MAX_WORST_LINES:
            num_worst = _MAX_WORST_LINES
            worst_label = f"{num_worst} worst classes"
    worst = order[:num_worst]
    _draw_curves(ax, thresholds, utility[worst], colors.orange, "dashed", worst_label)
    ax.plot(
        thresholds,
        utility.mean(axis=0),
        color=foreground(),
        linewidth=2.5,
        label="mean class",
    )
    mark_threshold(ax, threshold)
    opis = f"OPIS {evaluation.opis:.5f}"
    if evaluation.intervals is not None:
        opis += " ({:.5f} to {:.5f})".format(*evaluation.intervals["opis"])
    ax.set(
        xlim=(low, high),
        ylim=(np.floor(10 * utility.min()) / 10, 1.01),
        ylabel="utility of the class",
        title=f"{opis}\n{evaluation.epsilon:.0%}-OPIS {evaluation.epsilon_opis:.4f}",
    )
    label_thresholds(ax, evaluation)


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
    ax: "matplotlib.axes.Axes", thresholds: np.ndarray, utility: np.ndarray, color: str
) -> None:
    for share, alpha in _BANDS:
        ax.fill_between(
            thresholds,
            *np.quantile(utility, [0.5 - share / 2, 0.5 + share / 2], axis=0),
            color=color,
            alpha=alpha,
            linewidth=0,
            label=f"middle {share:.0%} of classes",
        )


def plot_utility_comparison(
    evaluations: Mapping[str, Evaluation], show_change: bool = True
) -> "matplotlib.figure.Figure":
    """Draw the utility curves of several models side by side.

    Both axes are shared, and each panel shades its own calibration range. With two
    models of the same classes, a last panel shows what has changed between them: for
    each class the difference of its utilities, each the mean over the model's
    calibration range, from the largest gain to the largest loss.

    Args:
        evaluations: What to draw, by name, at least one, all of one distance.
        show_change: Whether two models have that last panel. Defaults to `True`.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `evaluations` is empty, or their distances differ.

    Example:

    >>> figure = keras_tcm.visualization.plot_utility_comparison(
    ...     {"without TCM": result, "with TCM": result})
    """
    if not evaluations:
        raise ValueError("`evaluations` must not be empty. Received: evaluations={}")
    results = list(evaluations.values())
    distances = [result.distance for result in results]
    if len(set(distances)) > 1:
        raise ValueError(
            "`evaluations` must have one distance, for an axis in common. "
            f"Received: evaluations with {', '.join(distances)}"
        )
    changes = _changes(*results) if show_change and len(results) == 2 else None
    num_panels = len(results) + (changes is not None)
    width, height = _PANEL
    figure, (panels,) = pyplot().subplots(
        1,
        num_panels,
        figsize=(width * num_panels, height),
        squeeze=False,
        layout="constrained",
    )
    # Else the last number below a panel meets the first below the next.
    figure.get_layout_engine().set(wspace=0.04)
    ranges = np.array([result.calibration_range for result in results])
    limits = axis_limits(ranges.min(), ranges.max(), None)
    axes = panels[: len(results)]
    for ax, (name, evaluation) in zip(axes, evaluations.items(), strict=True):
        _draw_utility(ax, evaluation, limits, None)
        # A dollar sign in a name is not the start of a formula.
        ax.set_title(f"{name}\n{ax.get_title()}", parse_math=False)
    bottom = min(ax.get_ylim()[0] for ax in axes)
    for ax in axes:
        ax.set_ylim(bottom)
    for ax in axes[1:]:
        ax.set(ylabel="", yticklabels=[])
    if changes is not None:
        _draw_changes(panels[-1], changes, *results)
    # What they have in common, whichever of them has it.
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower left",
        # One panel is too narrow for all of them side by side.
        ncols=2 if len(panels) == 1 else len(entries),
        **_LEGEND_STYLE,
    )
    return figure


def _changes(before: Evaluation, after: Evaluation) -> np.ndarray | None:
    """Change of each class's mean utility; `None` where the classes are others."""
    place = {label: i for i, label in enumerate(before.classes.tolist())}
    labels = after.classes.tolist()
    if place.keys() != set(labels):
        return None
    utility = mean_over_range(before.utility)[[place[label] for label in labels]]
    # Nobody gains or loses by the rounding of sums.
    return np.round(mean_over_range(after.utility) - utility, 9)


def _draw_changes(
    ax: "matplotlib.axes.Axes",
    changes: np.ndarray,
    before: Evaluation,
    after: Evaluation,
) -> None:
    """Draw the changes of all classes, the largest gain first."""
    colors = palette()
    changes = np.sort(changes)[::-1]
    gains, losses = int((changes > 0).sum()), int((changes < 0).sum())
    style: dict[str, Any] = {
        "transform": ax.transAxes,
        "fontsize": "large",
        "fontweight": "bold",
    }
    for part, color, place, text in (
        (changes.clip(min=0), colors.blue, (0.45, 0.8), f"{gains:,} classes gain"),
        (changes.clip(max=0), colors.orange, (0.1, 0.15), f"{losses:,} classes lose"),
    ):
        ax.stairs(part, fill=True, color=color)
        ax.text(*place, text, **style)
    ax.axhline(0, color=foreground(), linewidth=1)
    scores = (
        ("OPIS", before.opis, after.opis),
        (f"{before.epsilon:.0%}-OPIS", before.epsilon_opis, after.epsilon_opis),
    )
    # An estimate from some of the pairs can be 0 or below.
    relative = [f"{name} {new / old - 1:+.1%}" for name, old, new in scores if old > 0]
    ax.set(
        xlim=(0, len(changes)),
        xlabel="classes, from largest gain to largest loss",
        ylabel="change of the class's mean utility",
        title="change of each class\n" + ", ".join(relative),
    )
