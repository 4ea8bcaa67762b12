"""What becomes of the pairs that are given some probability."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.evaluation import (
    ScoreNormalization,
    check_embeddings,
    count_classes,
    distance_range,
)
from keras_tcm.student import student_quantile
from keras_tcm.threshold import Threshold
from keras_tcm.validation import check_integer, check_number
from keras_tcm.visualization.palette import foreground, palette
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes

# Stretches of the distance in which pairs are taken to have the same probability.
_NUM_CELLS = 400


def plot_reliability(
    threshold: Threshold,
    embeddings: Any,
    labels: Any,
    prior: float = 0.5,
    num_bins: int = 10,
    ax: "matplotlib.axes.Axes | None" = None,
    score_normalization: ScoreNormalization | None = None,
) -> "matplotlib.axes.Axes":
    """Draw how many pairs are positive against the probability that they are given.

    Pairs are gathered in bins of equal width by the probability that the threshold
    gives them. On the dotted diagonal it is right: of the pairs that it gives 80%, four
    in five are positive. Above it, more are than it says.

    Args:
        threshold: Tells the probabilities.
        embeddings: Other embeddings than those that it was chosen on, shape `(n, d)`.
        labels: Their labels, shape `(n,)`.
        prior: Share of the pairs that are taken to be positive, in (0, 1): positive and
            negative pairs are weighted such that they are. Defaults to 0.5.
        num_bins: Number of bins, at least 2; those without pairs are not drawn.
            Defaults to 10.
        ax: Axes to draw on. Defaults to new ones.
        score_normalization: What the threshold was chosen with, if anything.

    Returns:
        The axes. Bars are intervals for other classes of the same kind, with the
        confidence of the threshold, by the jackknife over classes. They do not hold the
        error of the curve itself, which is that of the classes it was fitted on.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, the embeddings are of another
            dimension than those of the threshold, or there are fewer than two classes
            with a positive and a negative pair.

    Example:

    >>> rng = np.random.default_rng(1)
    >>> labels = np.repeat(np.arange(60), 4)
    >>> x = rng.normal(size=(60, 8))[labels] + 0.3 * rng.normal(size=(240, 8))
    >>> ax = keras_tcm.visualization.plot_reliability(threshold, x, labels)
    """
    plt = pyplot()
    prior = check_number("prior", prior, 0, 1, open_low=True, open_high=True)
    num_bins = check_integer("num_bins", num_bins, 2)
    threshold.check_normalization(score_normalization)
    vectors = check_embeddings("embeddings", embeddings)
    if vectors.shape[1] != threshold.dimension:
        raise ValueError(
            "`embeddings` must have the dimension of those that the threshold was "
            f"chosen on, {threshold.dimension}. "
            f"Received: embeddings.shape={vectors.shape}"
        )
    first, last = threshold.calibration.distances[[0, -1]].tolist()
    first = min(0.0, first)
    farthest = distance_range(threshold.distance)[1]
    # Beyond its last point the curve is constant.
    edges = np.append(np.linspace(first, last, _NUM_CELLS + 1)[1:], farthest)
    counts = count_classes(
        vectors,
        labels,
        at_thresholds=edges.tolist(),
        distance=threshold.distance,
        score_normalization=score_normalization,
        verbose=False,
    )
    middles = np.append(edges[:-1] - (last - first) / _NUM_CELLS / 2.0, last)
    probabilities = threshold.probability(middles, prior=prior)
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    in_bin = bins[:, None] == np.arange(num_bins)
    places = np.searchsorted(counts.thresholds, edges)
    far, frr = counts.far.some(places), counts.frr.some(places)
    # Of all classes, and without each of them.
    accepted = np.vstack([far.rates, far.without_each()])
    rejected = np.vstack([frr.rates, frr.without_each()])
    negative = (1.0 - prior) * np.diff(accepted, prepend=0.0)
    positive = prior * np.diff(1.0 - rejected, prepend=0.0)
    weights = (positive + negative) @ in_bin
    is_met = (weights > 0.0).all(axis=0)
    weights, in_bin = weights[:, is_met], in_bin[:, is_met]
    observed = positive @ in_bin / weights
    given = ((positive + negative)[0] * probabilities) @ in_bin / weights[0]
    num_classes = len(observed) - 1
    deviations = np.sqrt((num_classes - 1) * observed[1:].var(axis=0))
    spread = deviations * student_quantile(threshold.confidence, num_classes - 1)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 5.0), layout="constrained")
    ax.plot([0, 1], [0, 1], color=foreground(), linestyle="dotted")
    ax.errorbar(
        given,
        observed[0],
        yerr=[
            np.minimum(spread, observed[0]),
            np.minimum(spread, 1.0 - observed[0]),
        ],
        color=palette().blue,
        marker="o",
        linewidth=1.5,
        capsize=3,
        label=f"{threshold.confidence:.0%} intervals, other classes",
    )
    ax.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel=f"probability of one class ({prior:g} of the pairs are)",
        ylabel="share of the pairs of one class",
    )
    ax.legend(framealpha=0.9, fontsize="small")
    return ax
