"""Utility curves of all classes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.evaluation import Evaluation
from keras_tcm.ops.curves import mean_over_range, num_worst_classes
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# From the colour-blind safe palette of Okabe and Ito.
_CLASS_COLOR = "#0072B2"
_WORST_COLOR = "#D55E00"


def plot_utility(
    evaluation: Evaluation, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the utility of every class against the distance threshold.

    The closer the curves lie together, the better one threshold serves all classes.
    The worst classes, those that epsilon-OPIS compares with the others, stand out.

    Args:
        evaluation: What to draw.
        ax: Axes to draw on. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> ax = keras_tcm.visualization.plot_utility(result)
    """
    plt = pyplot()
    from matplotlib.collections import LineCollection

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    utility, thresholds = evaluation.utility, evaluation.thresholds
    order = np.argsort(mean_over_range(utility), kind="stable")
    num_worst = num_worst_classes(len(utility), evaluation.epsilon)
    groups = [
        (order[num_worst:], _CLASS_COLOR, "classes"),
        (order[:num_worst], _WORST_COLOR, f"worst {evaluation.epsilon:.0%} of classes"),
    ]
    for members, color, label in groups:
        # Many lines must not merge into a solid area.
        alpha = float(np.clip(12 / np.sqrt(len(utility)) / 3, 0.08, 0.8))
        curves = np.stack(
            [np.broadcast_to(thresholds, utility[members].shape), utility[members]],
            axis=-1,
        )
        ax.add_collection(
            LineCollection(list(curves), colors=color, linewidths=0.8, alpha=alpha)
        )
        # The legend shows the colour without the transparency.
        ax.plot([], [], color=color, linewidth=2, label=label)
    ax.plot(thresholds, utility.mean(axis=0), "k", linewidth=2.5, label="mean class")
    ax.set(
        xlim=(thresholds[0], thresholds[-1]),
        ylim=(_lower_limit(utility), 1.01),
        xlabel=f"threshold ({evaluation.distance} distance)",
        ylabel="utility of the class",
        title=f"OPIS {evaluation.opis:.5f}, "
        f"{evaluation.epsilon:.0%}-OPIS {evaluation.epsilon_opis:.4f}",
    )
    ax.legend(loc="lower right", framealpha=0.9)
    return ax


def plot_utility_comparison(
    evaluations: Mapping[str, Evaluation],
) -> "matplotlib.figure.Figure":
    """Draw the utility curves of several models side by side.

    Each panel spans its own calibration range, and says how wide it is; the utility
    axis is shared.

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
    for ax, (name, evaluation) in zip(axes[0], evaluations.items(), strict=True):
        plot_utility(evaluation, ax=ax)
        # A dollar sign in a name is not the start of a formula.
        ax.set_title(f"{name}\n{ax.get_title()}", parse_math=False)
    axes[0, 0].set_ylim(
        min(_lower_limit(evaluation.utility) for evaluation in evaluations.values())
    )
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
        ax.get_legend().remove()
    return figure


def _lower_limit(utility: np.ndarray) -> float:
    return float(np.floor(10 * utility.min()) / 10)
