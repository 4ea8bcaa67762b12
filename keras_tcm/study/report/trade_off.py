"""What each weight of TCM does to consistency and to recognition."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.study.summary import Comparison
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    from matplotlib.lines import Line2D

_COLUMNS = 3


def mean_change(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Mean change of R@1, and relative change of OPIS by the mean log ratio."""
    recall = [one.changes["recall_at_1"].change.value for one in comparisons]
    log_ratio = [one.changes["opis"].change.value for one in comparisons]
    return float(np.mean(recall)), math.expm1(np.mean(log_ratio))


def plot_trade_off(comparisons: Sequence[Comparison]) -> "matplotlib.figure.Figure":
    """Draw the change of OPIS against that of R@1, for each base loss and weight.

    Small markers are data sets and networks, large ones their means.

    Args:
        comparisons: Settings of the tuning, at least one.

    Returns:
        The figure, with one panel a base loss.
    """
    plt = pyplot()
    losses = sorted({one.setting.loss for one in comparisons})
    weights = sorted({one.weight for one in comparisons})
    num_columns = min(len(losses), _COLUMNS)
    num_rows = math.ceil(len(losses) / _COLUMNS)
    figure, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(1.2 + 3.6 * num_columns, 3.5 * num_rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    # Weights have an order, and so have these colours.
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(weights)))
    for ax, loss in zip(axes.flat, losses, strict=False):
        ax.axhline(1, color="0.7", linewidth=0.8, zorder=0)
        ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
        means = [(0.0, 1.0)]
        for weight, color in zip(weights, shades, strict=True):
            chosen = [
                one
                for one in comparisons
                if one.setting.loss == loss and one.weight == weight
            ]
            if not chosen:
                continue
            places = [_place([one]) for one in chosen]
            ax.scatter(*zip(*places, strict=True), s=22, color=color, alpha=0.6)
            means.append(_place(chosen))
            ax.scatter(*means[-1], s=150, color=color, edgecolors="black")
        # From no TCM through the weights.
        ax.plot(*zip(*means, strict=True), color="0.4", linewidth=1, zorder=0.5)
        ax.scatter(0, 1, s=60, marker="x", color="black", zorder=3)
        ax.set_title(loss, parse_math=False)
        ax.grid(alpha=0.25)
    for ax in axes.flat[len(losses) :]:
        ax.remove()
    figure.supxlabel("change of R@1 (points)")
    figure.supylabel("change of OPIS")
    _show_large_and_small(axes[0, 0])
    figure.legend(
        handles=_legend(weights, shades),
        loc="outside right upper",
        frameon=False,
        labelspacing=0.8,
    )
    return figure


def _place(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Change of R@1 in points, and OPIS with TCM as a multiple of that without."""
    recall, opis = mean_change(comparisons)
    return 100.0 * recall, 1.0 + opis


def _show_large_and_small(ax: "matplotlib.axes.Axes") -> None:
    """Scale the axes so that a weight that ruins a model does not hide the others."""
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    low, high = ax.get_xlim()
    steps = (1, 3, 10, 30, 100)
    ticks = [x for x in (*(-x for x in steps[::-1]), 0, *steps) if low <= x <= high]
    ax.set_xticks(ticks, [f"{x:+d}" if x else "0" for x in ticks])
    ax.set_xticks([], minor=True)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(
        lambda ratio, _: f"{ratio - 1:+.0%}" if ratio != 1 else "0%"
    )


def _legend(weights: Sequence[float], shades: np.ndarray) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    entries: list[tuple[str, str, Any, float, str]] = [
        ("without TCM", "x", "black", 8, "black"),
        *(
            (f"weight {weight:g}", "o", color, 12, "black")
            for weight, color in zip(weights, shades, strict=True)
        ),
        ("one data set\nand network", "o", "0.5", 5, "0.5"),
    ]
    return [
        Line2D(
            [], [], ls="none", marker=marker, ms=size, mfc=color, mec=edge, label=text
        )
        for text, marker, color, size, edge in entries
    ]
