"""The figures of a threshold show what it holds."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import assert_legible, legend_texts, lines
from scipy import stats

from keras_tcm import choose_threshold
from keras_tcm.visualization import (
    plot_detection_errors,
    plot_probability,
    plot_promises,
    plot_reliability,
)


@pytest.fixture(scope="module")
def threshold():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 6)
    x = rng.normal(size=(100, 8))[labels] + 0.5 * rng.normal(size=(600, 8))
    return choose_threshold(x, labels, far=0.05)


def test_the_trade_off_is_on_probit_axes(threshold):
    ax = plot_detection_errors(threshold)
    curve = lines(ax)["all pairs"]
    some = (threshold.curve_far > 1e-4) & (threshold.curve_frr > 1e-4)
    for drawn, rates in (
        (curve.get_xdata(), threshold.curve_far),
        (curve.get_ydata(), threshold.curve_frr),
    ):
        np.testing.assert_allclose(stats.norm.cdf(drawn[some]), rates[some])
    marked = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(stats.norm.cdf(marked), [0.05])
    (bars,) = ax.containers
    point = bars.lines[0]
    np.testing.assert_allclose(
        stats.norm.cdf([point.get_xdata()[0], point.get_ydata()[0]]),
        [threshold.far, threshold.frr],
    )
    assert f"threshold {threshold.value:.4f}" in legend_texts(ax)


def test_bands_are_the_intervals(threshold):
    ax = plot_detection_errors(threshold)
    path = ax.collections[0].get_paths()[0]
    found = stats.norm.cdf(path.vertices[:, 1])
    low, high = threshold.curve_frr_intervals.T
    assert found.min() == pytest.approx(max(low.min(), 1e-5))
    assert found.max() == pytest.approx(min(high.max(), 0.995))


def test_probabilities_are_those_of_the_threshold(threshold):
    ax = plot_probability(threshold, priors=(0.3, 0.01))
    for prior in (0.3, 0.01):
        line = lines(ax)[f"{prior:g} of the pairs of one class"]
        expected = threshold.probability(line.get_xdata(), prior=prior)
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert f"threshold {threshold.value:.4f}" in legend_texts(ax)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_figures_are_legible(threshold, style):
    with plt.style.context(style):
        for plot in (plot_detection_errors, plot_probability):
            assert_legible(plot(threshold).figure)
            plt.close("all")


def test_priors_out_of_range(threshold):
    with pytest.raises(ValueError, match="`prior` must be a number in"):
        plot_probability(threshold, priors=(0,))


def other_samples(shift=0.0):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(60), 6)
    x = rng.normal(size=(60, 8))[labels] + 0.5 * rng.normal(size=(360, 8))
    return x + shift, labels


def drawn_reliability(ax):
    (bars,) = ax.containers
    line, _, (segments,) = bars.lines
    return line.get_xdata(), line.get_ydata(), np.array(segments.get_segments())


@pytest.mark.parametrize("prior", [0.5, 0.05])
def test_reliability_against_all_pairs(threshold, prior):
    x, y = other_samples()
    ax = plot_reliability(threshold, x, y, prior=prior, num_bins=5)
    given, observed, _ = drawn_reliability(ax)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    first, second = np.triu_indices(len(x), 1)
    distances = np.clip(1 - (unit[first] * unit[second]).sum(axis=1), 0, 2)
    same = y[first] == y[second]
    weights = np.where(same, prior / same.sum(), (1 - prior) / (~same).sum())
    probabilities = threshold.probability(distances, prior=prior)
    bins = np.minimum((5 * probabilities).astype(int), 4)
    met = np.unique(bins)
    expected, means = [], []
    for found in (bins == b for b in met):
        expected.append(weights[same & found].sum() / weights[found].sum())
        means.append(np.average(probabilities[found], weights=weights[found]))
    # The figure takes a probability for the same over 1/400 of the distances.
    np.testing.assert_allclose(observed, expected, atol=0.03)
    np.testing.assert_allclose(given, means, atol=0.01)


def test_reliability_of_the_same_kind_is_near_the_diagonal(threshold):
    given, observed, segments = drawn_reliability(
        plot_reliability(threshold, *other_samples())
    )
    low, high = segments[:, :, 1].T
    assert ((low <= observed) & (observed <= high)).all()
    assert ((low >= 0) & (high <= 1)).all()
    # Everywhere, also near the last threshold of the curve.
    assert np.abs(observed - given).max() < 0.25
    # With a common shift, far more pairs are near than the threshold knows of.
    given, observed, _ = drawn_reliability(
        plot_reliability(threshold, *other_samples(shift=1.5))
    )
    assert (observed - given)[given > 0.5].max() < -0.1


def test_reliability_of_what_does_not_fit(threshold):
    x, y = other_samples()
    with pytest.raises(ValueError, match=r"`embeddings` must have the dimension.*8"):
        plot_reliability(threshold, x[:, :5], y)
    with pytest.raises(ValueError, match="`prior` must be"):
        plot_reliability(threshold, x, y, prior=1)
    with pytest.raises(ValueError, match="`num_bins` must be"):
        plot_reliability(threshold, x, y, num_bins=1)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_reliability_is_legible(threshold, style):
    with plt.style.context(style):
        assert_legible(plot_reliability(threshold, *other_samples()).figure)
        plt.close("all")


@pytest.fixture(scope="module")
def check(threshold):
    return threshold.check(*other_samples())


def dots(ax):
    """Places and rates of all checks, by marker and whether it is filled."""
    return {
        (line.get_marker(), line.get_markerfacecolor() != "none"): line.get_xydata()
        for line in ax.lines
        if line.get_marker() != "None" and len(line.get_xdata())
    }


def test_promises_show_what_is_kept(check):
    found = (
        (0.01, 0.008, (0.006, 0.012)),
        (0.01, 0.010, (0.006, 0.012)),
        (0.01, 0.013, (0.009, 0.016)),
        (0.01, 0.020, (0.015, 0.030)),
        (0.01, 0.0, (0.0, 0.002)),
    )
    checks = [
        dataclasses.replace(check, far_target=target, far=far, far_interval=interval)
        for target, far, interval in found
    ]
    ax = plot_promises(checks)
    drawn = dots(ax)
    # No rate is drawn at 0, which has no place on the axis.
    np.testing.assert_allclose(drawn["o", True][:, 1], [0.001, 0.008, 0.010])
    np.testing.assert_allclose(drawn["o", False][:, 1], [0.013])
    np.testing.assert_allclose(drawn["X", True][:, 1], [0.020])
    assert legend_texts(ax) == [
        "at most the promise: 3 of 5",
        "above, but not the interval: 1 of 5",
        "above with its interval: 1 of 5",
        "promise",
    ]
    segments = np.array(ax.collections[0].get_segments())[:, :, 1]
    np.testing.assert_allclose(
        segments,
        [(0.001, 0.002), (0.006, 0.012), (0.006, 0.012), (0.009, 0.016), (0.015, 0.03)],
    )
    assert ax.get_xlabel() == "FAR promised"
    ax.figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_yticklabels(which="both")}
    assert {"0.5%", "1%", "2%"} <= shown


def test_promises_of_an_frr(check):
    ax = plot_promises([dataclasses.replace(check, far_target=None, frr_target=0.5)])
    assert ax.get_ylabel() == "FRR on other data"
    ((place, rate),) = dots(ax)["o", True]
    assert (place, rate) == (0.5, check.frr)


def test_checks_that_do_not_fit(check):
    other = dataclasses.replace(check, far_target=None, frr_target=0.5)
    with pytest.raises(ValueError, match="`checks` must not be empty"):
        plot_promises([])
    with pytest.raises(ValueError, match="`checks` must be of thresholds that all"):
        plot_promises([check, other])
    with pytest.raises(ValueError, match="`checks` must be of thresholds that promis"):
        plot_promises([dataclasses.replace(check, share_kept=0.8)])
    with pytest.raises(TypeError, match="`checks` must be a sequence of what"):
        plot_promises([0.01])


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_promises_are_legible(check, style):
    with plt.style.context(style):
        assert_legible(plot_promises([check, check]).figure)
