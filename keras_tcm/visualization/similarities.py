"""Histograms of the similarities inside and between classes."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_tcm.evaluation import (
    DISTANCES,
    STEPS_PER_UNIT,
    Histogram,
    accepted_steps,
    pair_histograms,
    to_cosine,
)
from keras_tcm.validation import check_choice, check_number
from keras_tcm.visualization.palette import foreground, palette
from keras_tcm.visualization.pyplot import pyplot
from keras_tcm.visualization.threshold_axis import check_threshold

if TYPE_CHECKING:
    import matplotlib.axes

# Samples of which all negative pairs are counted: 34 million of them.
_MAX_SAMPLES = 8192
_MAX_POSITIVES = 2**24
_NUM_BINS = 120
# Of positive pairs and of negative ones.
_STYLES = {
    True: {"name": "positive", "linestyle": "solid", "hatch": "////"},
    False: {"name": "negative", "linestyle": "dashed", "hatch": "\\\\\\\\"},
}


def plot_similarities(
    embeddings: Any,
    labels: Any,
    margins: tuple[float, float] | None = None,
    ax: "matplotlib.axes.Axes | None" = None,
    threshold: float | None = None,
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> "matplotlib.axes.Axes":
    """Draw how the cosine similarities of positive and negative pairs are distributed.

    Densities, each of area 1: there are far fewer positive pairs. With the margins of
    `losses.TCM`, the pairs that it acts on are hatched: positive pairs with a
    similarity of at most the positive margin, and negative pairs with one of at least
    the negative margin. The legend has their shares. A threshold is a line, to the
    right of which pairs are accepted; the legend has their shares, too.

    Of more than 8,192 samples, the negative pairs among a random 8,192 stand for all;
    of more than 17 million positive pairs, those of random samples with all others.
    The random samples are the same in every call. Pairs are counted block by block:
    what they need in memory does not grow with their number.

    Args:
        embeddings: Vectors of any norm, shape `(n, d)`: array or tensor.
        labels: Labels of any hashable kind, shape `(n,)`.
        margins: `(positive_margin, negative_margin)` of a TCM loss, with
            `-1 <= negative_margin <= positive_margin <= 1`. Defaults to `None`.
        ax: Axes to draw on. Defaults to new ones.
        threshold: A distance to mark, such as the `threshold` of an operating point; it
            is drawn at the similarity that it stands for. Defaults to `None`.
        distance: The distance that `threshold` is one of: `"cosine"` (`1 - s`) or
            `"euclidean"` (`sqrt(2 - 2 s)`). Defaults to `"cosine"`.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `embeddings` are not real numbers, `labels` are no labels,
            `margins` are not two numbers, or `threshold` is not one.
        ValueError: If shapes do not match, embeddings are NaN or infinite, there is no
            positive or no negative pair, a margin is out of range, `threshold` is not
            in [0, 2], or `distance` is another than these.

    Example:

    >>> ax = keras_tcm.visualization.plot_similarities(
    ...     embeddings, labels, margins=(0.9, 0.5))
    """
    plt = pyplot()
    if margins is not None:
        margins = _check_margins(margins)
    check_choice("distance", distance, DISTANCES)
    threshold = check_threshold(threshold, distance)
    positive, negative = pair_histograms(
        embeddings, labels, _MAX_POSITIVES, _MAX_SAMPLES
    )

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    farthest = max(positive.steps[-1], negative.steps[-1])
    nearest = min(positive.steps[0], negative.steps[0])
    # A step more: distances are rounded, and all may be equal.
    edges = np.linspace(
        _similarity(farthest + 1), _similarity(nearest - 1), _NUM_BINS + 1
    )
    colors = palette()
    for pairs, is_positive, color in (
        (positive, True, colors.blue),
        (negative, False, colors.orange),
    ):
        style = _STYLES[is_positive]
        densities = _densities(pairs, edges)
        ax.stairs(densities, edges, fill=True, color=color, alpha=0.35)
        ax.stairs(
            densities,
            edges,
            color=color,
            linestyle=style["linestyle"],
            linewidth=1.6,
            label=f"{style['name']} pairs",
        )
        if margins is not None:
            margin = margins[0 if is_positive else 1]
            _mark_hard_pairs(ax, pairs, is_positive, color, margin, densities, edges)
    if threshold is not None:
        _mark_threshold(ax, threshold, distance, positive, negative)
    ax.set(xlabel="cosine similarity", ylabel="density")
    ax.set_ylim(bottom=0)
    ax.legend(framealpha=0.9, fontsize="small")
    return ax


def _check_margins(margins: Any) -> tuple[float, float]:
    try:
        positive, negative = margins
    except (TypeError, ValueError):
        raise TypeError(
            "`margins` must be two numbers, the positive and the negative margin. "
            f"Received: margins={margins!r}"
        ) from None
    positive = check_number("margins[0]", positive, -1, 1)
    return positive, check_number("margins[1]", negative, -1, positive)


def _similarity(steps: float | np.ndarray) -> Any:
    return 1.0 - steps / STEPS_PER_UNIT


def _densities(pairs: Histogram, edges: np.ndarray) -> np.ndarray:
    counts = np.diff(pairs.cumulative, prepend=0)
    densities, _ = np.histogram(
        _similarity(pairs.steps), edges, weights=counts, density=True
    )
    return densities


def _mark_hard_pairs(
    ax: "matplotlib.axes.Axes",
    pairs: Histogram,
    is_positive: bool,
    color: str,
    margin: float,
    densities: np.ndarray,
    edges: np.ndarray,
) -> None:
    """Draw a margin, and hatch the densities on the side on which TCM acts."""
    steps = (1.0 - margin) * STEPS_PER_UNIT
    if is_positive:
        bins = edges[:-1] < margin
        hard_edges = np.append(edges[:-1][bins], min(margin, edges[-1]))
        share = 1.0 - pairs.share_up_to(int(np.ceil(steps)) - 1)
    else:
        bins = edges[1:] > margin
        hard_edges = np.insert(edges[1:][bins], 0, max(margin, edges[0]))
        share = pairs.share_up_to(int(np.floor(steps)))
    style = _STYLES[is_positive]
    ax.axvline(
        margin,
        color=color,
        linestyle=style["linestyle"],
        label=f"{style['name']} margin {margin:g}",
    )
    if bins.any():
        ax.stairs(
            densities[bins],
            hard_edges,
            fill=True,
            facecolor="none",
            edgecolor=color,
            linewidth=0,
            hatch=style["hatch"],
            label=f"hard {style['name']} pairs: {share:.1%}",
        )


def _mark_threshold(
    ax: "matplotlib.axes.Axes",
    threshold: float,
    distance: str,
    positive: Histogram,
    negative: Histogram,
) -> None:
    """Draw a threshold, and say what it accepts."""
    cosine = float(to_cosine(threshold, distance))
    shares = [
        float(pairs.share_up_to(int(accepted_steps(np.array(cosine)))))
        for pairs in (positive, negative)
    ]
    ax.axvline(
        1.0 - cosine,
        color=foreground(),
        linestyle=":",
        linewidth=2,
        label=f"threshold {threshold:.4f} ({distance} distance) accepts\n"
        "{:.1%} of positive, {:.2%} of negative pairs".format(*shares),
    )
