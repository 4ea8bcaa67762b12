"""The figures of a threshold show what it holds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import assert_legible, legend_texts, lines
from scipy import stats

from keras_tcm import choose_threshold
from keras_tcm.visualization import plot_detection_errors, plot_probability


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
