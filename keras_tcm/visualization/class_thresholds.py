"""The threshold that would suit each class best."""

from typing import TYPE_CHECKING

import numpy as np

from keras_tcm.class_names import ClassNames, names_of
from keras_tcm.evaluation import Evaluation
from keras_tcm.visualization.images import short_name
from keras_tcm.visualization.palette import palette
from keras_tcm.visualization.pyplot import pyplot
from keras_tcm.visualization.threshold_axis import (
    label_thresholds,
    shade_calibration_range,
)

if TYPE_CHECKING:
    import matplotlib.axes

_MIN_BINS, _MAX_BINS = 10, 40
# From the outer bars to the others, in widths of a bar.
_GAP = 1.0
# Names of the classes of an outer bar that there is room for.
_MAX_NAMES = 4
_LONGEST_NAME = 16


def plot_class_thresholds(
    evaluation: Evaluation,
    ax: "matplotlib.axes.Axes | None" = None,
    class_names: ClassNames | None = None,
) -> "matplotlib.axes.Axes":
    """Draw how each class's own best threshold is distributed over the classes.

    The best threshold of a class is the one with its highest utility, or the middle
    of them. If they all lay at one place, one threshold would serve all classes. The
    calibration range is shaded, and a line marks the best threshold of the mean class.

    The evaluation knows the utility from its lowest to its highest threshold. Classes
    that are best at one of these ends are counted in the hatched bar beyond it, with
    their number above: their best threshold may lie anywhere farther out. Where classes
    have names, some of those in the outermost bar on either side are listed below the
    axis.

    Args:
        evaluation: What to draw.
        ax: Axes to draw on. Defaults to new ones.
        class_names: The name of each label: a mapping or, for integer labels, a
            sequence. Defaults to `None`: no class is named.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `class_names` are no names.
        ValueError: If a class has no name.

    Example:

    >>> ax = keras_tcm.visualization.plot_class_thresholds(result)
    """
    plt = pyplot()
    from matplotlib.ticker import MaxNLocator

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    thresholds, utility = evaluation.utility_curves()
    step = evaluation.thresholds[1] - evaluation.thresholds[0]
    best, side = _best_thresholds(thresholds, utility, step)
    low, high = thresholds[0], thresholds[-1]
    inside = best[side == 0]
    num_bins = int(np.clip(2 * np.sqrt(len(best)), _MIN_BINS, _MAX_BINS))
    counts, edges = np.histogram(inside, num_bins, range=(low, high))
    width = edges[1] - edges[0]

    colors = palette()
    shade_calibration_range(ax, evaluation)
    ax.stairs(counts, edges, fill=True, color=colors.blue, alpha=0.85, label="classes")
    outer = [low - (_GAP + 0.5) * width, high + (_GAP + 0.5) * width]
    outer_counts = [int((side < 0).sum()), int((side > 0).sum())]
    bars = ax.bar(
        outer,
        outer_counts,
        width,
        facecolor="none",
        edgecolor=colors.blue,
        hatch="////",
        label="best at the end of what is known, or beyond",
    )
    ax.bar_label(bars, padding=2)
    (mean_class,), _ = _best_thresholds(thresholds, utility.mean(axis=0)[None], step)
    ax.axvline(
        mean_class,
        color=colors.orange,
        linestyle="dashed",
        linewidth=2,
        label=f"best for the mean class, {mean_class:.4f}",
    )
    ax.set(
        xlim=(outer[0] - width, outer[1] + width),
        # The numbers above the bars need some room.
        ylim=(0, 1.12 * max(*counts, *outer_counts)),
        ylabel="classes",
        title=f"Best threshold of each of {len(best):,} classes",
    )
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    label_thresholds(ax, evaluation)
    if class_names is not None:
        names = names_of(evaluation.classes.tolist(), class_names)
        # The bar of each class, from that below all others to that above them.
        bars_of = np.where(side == 0, np.digitize(best, edges[1:-1]), side * num_bins)
        ends = (("lowest", bars_of.min()), ("highest", bars_of.max()))
        lines = [
            f"{word}: {_few(np.array(names)[bars_of == end].tolist())}"
            for word, end in ends
        ]
        ax.set_xlabel("\n".join([ax.get_xlabel(), *lines]), parse_math=False)
    ax.legend(framealpha=0.9, fontsize="small")
    return ax


def _few(names: list[str]) -> str:
    shown = [short_name(name, _LONGEST_NAME) for name in names[:_MAX_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _best_thresholds(
    thresholds: np.ndarray, utility: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find where each class is best.

    Args:
        thresholds: Increasing distances, shape `(k,)`.
        utility: Utility of each class there, shape `(C, k)`.
        step: Usual distance between thresholds.

    Returns:
        The best thresholds, shape `(C,)`, and for each class -1 or 1 if it may be
        better still below or above all of them, else 0.
    """
    highest = utility.max(axis=1)
    is_best = utility == highest[:, None]
    first = thresholds[is_best.argmax(axis=1)]
    last = thresholds[::-1][is_best[:, ::-1].argmax(axis=1)]
    # The last two thresholds may differ by a single pair, as an operating point and the
    # end of the calibration range do.
    is_low = first < thresholds[0] + step / 2
    is_high = last > thresholds[-1] - step / 2
    # A class that is as good at both ends does not rise towards one of them, and
    # nothing is better than 1.
    side = is_high.astype(int) - is_low
    side[highest >= 1.0] = 0
    return (first + last) / 2, side
