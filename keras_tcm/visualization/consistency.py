"""Threshold consistency against recognition error."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keras_tcm.validation import check_integer, check_number
from keras_tcm.visualization.palette import COLORS, foreground
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes

# Losses that can be told apart: the last has the colour of the text.
_MAX_LOSSES = len(COLORS) + 1
# Areas of the smallest and of the largest marker, in square points.
_AREAS = (45.0, 200.0)
_MARKERS = {False: "o", True: "^"}


@dataclasses.dataclass(frozen=True)
class ConsistencyPoint:
    """One trained model, as `plot_consistency` shows it.

    Attributes:
        loss: Name of the base loss.
        batch_size: Samples in a batch of the training, at least 1.
        has_tcm: Whether TCM was added to the base loss.
        recall: R@1 of the model, in [0, 1].
        opis: OPIS of the model, above 0.

    Example:

    >>> point = keras_tcm.visualization.ConsistencyPoint(
    ...     "smooth_ap", batch_size=128, has_tcm=False, recall=0.9, opis=0.004)
    >>> point.batch_size
    128
    """

    loss: str
    batch_size: int
    has_tcm: bool
    recall: float
    opis: float

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 1)
        check_number("recall", self.recall, 0, 1)
        check_number("opis", self.opis, 0, open_low=True)


def plot_consistency(
    points: Iterable[ConsistencyPoint], ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw OPIS against the recognition error `1 - R@1`, without and with TCM.

    Circles are models without TCM, triangles models with it; a line joins the two of
    the same base loss and batch size. Colours tell the base losses apart, and larger
    markers stand for larger batches. Low is consistent, left is accurate.

    Args:
        points: The models, at least one, at most seven base losses, and at most one
            model of each loss, batch size, and presence of TCM.
        ax: Axes to draw on. Defaults to new ones. The legend stands to their right.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are too few, too many or repeated points.

    Example:

    >>> from keras_tcm.visualization import ConsistencyPoint, plot_consistency
    >>> ax = plot_consistency([
    ...     ConsistencyPoint("smooth_ap", 128, False, recall=0.90, opis=0.0042),
    ...     ConsistencyPoint("smooth_ap", 128, True, recall=0.91, opis=0.0031)])

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """
    by_key: dict[tuple[str, int, bool], ConsistencyPoint] = {}
    for point in points:
        key = (point.loss, point.batch_size, point.has_tcm)
        if key in by_key:
            raise ValueError(
                "`points` must have one model at most of each loss, batch size and "
                f"presence of TCM. Received: {by_key[key]} and {point}"
            )
        by_key[key] = point
    losses = list(dict.fromkeys(loss for loss, _, _ in by_key))
    if not 1 <= len(losses) <= _MAX_LOSSES:
        raise ValueError(
            f"`points` must have 1 to {_MAX_LOSSES} base losses. "
            f"Received: {len(losses)} base losses"
        )
    plt = pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    colors = dict(zip(losses, (*COLORS, foreground()), strict=False))
    sizes = sorted({batch_size for _, batch_size, _ in by_key})

    # Small markers above large ones, which would hide them.
    for point in sorted(by_key.values(), key=lambda point: -point.batch_size):
        color = colors[point.loss]
        other = by_key.get((point.loss, point.batch_size, True))
        if not point.has_tcm and other is not None:
            ax.plot(
                [_error_percent(point), _error_percent(other)],
                [point.opis, other.opis],
                color=color,
                linewidth=1,
                alpha=0.6,
                zorder=1,
            )
        ax.scatter(
            _error_percent(point),
            point.opis,
            s=_area(point.batch_size, sizes),
            marker=_MARKERS[point.has_tcm],
            color=color,
            edgecolors="white",
            linewidths=0.8,
            zorder=2,
        )
    ax.set(
        xlabel="recognition error, 1 - R@1 (%)",
        ylabel="threshold inconsistency, OPIS",
        yscale="log",
    )
    _label_log_axis(ax)
    ax.grid(alpha=0.25)
    _add_legend(ax, colors, sizes)
    return ax


def _error_percent(point: ConsistencyPoint) -> float:
    return 100.0 * (1.0 - point.recall)


def _area(batch_size: int, sizes: Sequence[int]) -> float:
    low, high = _AREAS
    if sizes[0] == sizes[-1]:
        return (low + high) / 2
    share = math.log(batch_size / sizes[0]) / math.log(sizes[-1] / sizes[0])
    return low + share * (high - low)


def _label_log_axis(ax: "matplotlib.axes.Axes") -> None:
    """Label several values of each decade, as models often span no more than one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.yaxis.set_major_locator(
        LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))
    )
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _add_legend(
    ax: "matplotlib.axes.Axes", colors: dict[str, str], sizes: Sequence[int]
) -> None:
    from matplotlib.lines import Line2D

    def heading(text: str) -> Line2D:
        return Line2D([], [], linestyle="none", label=text)

    def marker(text: str, color: str, shape: str, area: float) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=shape,
            markersize=math.sqrt(area),
            markerfacecolor=color,
            markeredgecolor="white",
            label=text,
        )

    middle = sum(_AREAS) / 2
    entries = [
        heading("base loss"),
        *(marker(loss, color, "s", 80.0) for loss, color in colors.items()),
        heading("TCM"),
        marker("without", "0.5", _MARKERS[False], middle),
        marker("with", "0.5", _MARKERS[True], middle),
        heading("batch size"),
        *(marker(str(size), "0.5", "o", _area(size, sizes)) for size in sizes),
    ]
    legend = ax.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        labelspacing=0.55,
    )
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        # A dollar sign in a name is not the start of a formula.
        text.set_parse_math(False)
        if entry.get_marker() == "None":
            text.set_fontweight("bold")
