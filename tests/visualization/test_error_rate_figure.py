"""The figure of FAR and FRR shows the rates that an evaluation holds."""

import math
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import (
    assert_legible,
    error_rates,
    evaluation,
    legend_texts,
    lines,
    operating_point,
)
from matplotlib.collections import LineCollection

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation import ErrorRates
from keras_tcm.visualization import plot_error_rates, plot_utility

THRESHOLDS = np.linspace(0.1, 0.8, 15)


def with_rates(num_classes=20, rates=None, **changes):
    rates = rates or error_rates(THRESHOLDS, num_classes)
    return evaluation(num_classes, error_rates=rates, **changes)


def test_lines_are_the_rates_of_all_pairs():
    result = with_rates()
    ax = plot_error_rates(result)
    rates, drawn = result.error_rates, lines(ax)
    for label, expected in (
        ("FAR of all pairs", rates.far),
        ("FRR of all pairs", rates.frr),
    ):
        np.testing.assert_array_equal(drawn[label].get_xdata(), THRESHOLDS)
        np.testing.assert_allclose(drawn[label].get_ydata(), expected)
    assert drawn["FAR of all pairs"].get_linestyle() == "-"
    assert drawn["FRR of all pairs"].get_linestyle() == "--"


@pytest.mark.parametrize(("num_classes", "ranks"), [(21, (1, 5)), (1001, (50, 250))])
def test_bands_hold_the_middle_of_the_classes(num_classes, ranks):
    """Of 21 classes, 1 is below the middle 90% of them, and 5 below the middle 50%."""
    result = with_rates(num_classes)
    ax = plot_error_rates(result)
    bottom, rates = ax.get_ylim()[0], result.error_rates
    expected = [
        np.sort(of_classes, axis=0)[[rank, num_classes - 1 - rank]]
        for of_classes in (rates.per_class_far, rates.per_class_frr)
        for rank in ranks
    ]
    assert len(ax.collections) == 4
    for band, ends in zip(ax.collections, expected, strict=True):
        (path,) = band.get_paths()
        for k, threshold in enumerate(THRESHOLDS):
            heights = path.vertices[np.isclose(path.vertices[:, 0], threshold), 1]
            found = [heights.min(), heights.max()]
            assert found == pytest.approx(np.maximum(ends[:, k], bottom).tolist())


def test_rates_of_zero_are_drawn_at_the_lower_end():
    """A logarithm has no place for them."""
    rates = ErrorRates(
        THRESHOLDS,
        far=np.linspace(0, 0.3, 15),
        frr=np.linspace(0.4, 0, 15),
        per_class_far=np.zeros((3, 15), "float32"),
        per_class_frr=np.zeros((3, 15), "float32"),
    )
    ax = plot_error_rates(with_rates(3, rates))
    low, high = ax.get_ylim()
    assert 0 < low < 0.02
    assert high >= 1
    far = lines(ax)["FAR of all pairs"].get_ydata()
    assert far[0] == low
    assert far[1:] == pytest.approx(rates.far[1:])
    for band in ax.collections:
        assert (band.get_paths()[0].vertices[:, 1] >= low).all()
    ax.figure.canvas.draw()


def test_without_any_error():
    nothing = np.zeros((2, 15))
    rates = ErrorRates(THRESHOLDS, nothing[0], nothing[0], nothing, nothing)
    plot_error_rates(with_rates(2, rates)).figure.canvas.draw()


def test_operating_points_and_equal_error_rate():
    """0.02 per step up and down: they meet half-way, where both are 0.14."""
    rates = ErrorRates(
        THRESHOLDS,
        far=np.linspace(0, 0.28, 15),
        frr=np.linspace(0.28, 0, 15),
        per_class_far=np.full((3, 15), 0.1, "float32"),
        per_class_frr=np.full((3, 15), 0.1, "float32"),
    )
    points = (
        operating_point(0.001, math.nan),
        operating_point(0.01, 0.2, far=0.009, frr=0.25),
        operating_point(1.0, 2.0, far=1.0, frr=0.0),
    )
    result = with_rates(3, rates, operating_points=points, eer=0.14)
    drawn = lines(plot_error_rates(result))
    marks = drawn["operating points"]
    # The first is unresolved, and the last beyond the thresholds.
    assert marks.get_xydata().tolist() == [[0.2, 0.009], [0.2, 0.25]]
    np.testing.assert_allclose(drawn["EER 14.00%"].get_xydata(), [[0.45, 0.14]])


def test_intervals_stand_beside_what_they_are_of():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 8)
    x = rng.normal(size=(30, 8))[labels] + 0.5 * rng.normal(size=(240, 8))
    result = evaluate_embeddings(x, labels, far_targets=(0.02, 0.05))
    ax = plot_error_rates(result)
    drawn = [
        np.array(collection.get_segments())
        for collection in ax.collections
        if isinstance(collection, LineCollection)
    ]
    bottom = ax.get_ylim()[0]
    expected = [
        [(point.threshold, max(limit, bottom)) for limit in point.intervals[name]]
        for point in result.operating_points
        for name in ("far", "frr")
    ]
    np.testing.assert_allclose(np.concatenate(drawn), expected)
    low, high = result.intervals["eer"]
    texts = legend_texts(ax)
    assert f"EER {result.eer:.2%} ({low:.2%} to {high:.2%})" in texts
    assert "operating points, 95% intervals" in texts
    low, high = result.intervals["opis"]
    title = plot_utility(result).get_title()
    assert title.startswith(f"OPIS {result.opis:.5f} ({low:.5f} to {high:.5f})")


def test_an_equal_error_rate_out_of_reach_is_not_drawn():
    low, high = np.linspace(0.1, 0.2, 15), np.linspace(0.5, 0.4, 15)
    one = np.full((3, 15), 0.1, "float32")
    ax = plot_error_rates(with_rates(3, ErrorRates(THRESHOLDS, low, high, one, one)))
    assert not [label for label in legend_texts(ax) if label.startswith("EER")]


def test_calibration_range_is_shaded():
    ax = plot_error_rates(with_rates(low=0.3))
    (span,) = [x for x in ax.patches if x.get_label() == "calibration range"]
    assert [span.get_x(), span.get_x() + span.get_width()] == pytest.approx([0.3, 0.7])
    low, high = ax.get_xlim()
    assert low < 0.1
    assert high > 0.8


@pytest.mark.parametrize("threshold", [0.05, 0.5, 1.2])
def test_threshold(threshold):
    ax = plot_error_rates(with_rates(), threshold=threshold)
    label = f"threshold {threshold:.4f}"
    assert lines(ax)[label].get_xdata() == [threshold, threshold]
    assert label in legend_texts(ax)
    low, high = ax.get_xlim()
    assert low < threshold < high


def test_axes():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_error_rates(with_rates(), ax=right) is right
    assert len(plt.get_fignums()) == 1
    assert not left.lines
    assert "cosine" in right.get_xlabel()
    assert plot_error_rates(with_rates()).figure is not right.figure


def test_ten_thousand_classes_can_be_drawn():
    plot_error_rates(with_rates(10_000)).figure.canvas.draw()


def test_light_and_dark(style):
    result = with_rates(operating_points=(operating_point(0.01, 0.3),))
    assert_legible(plot_error_rates(result, threshold=0.4).figure)


@pytest.mark.parametrize("threshold", [math.nan, -1.0, 2.5])
def test_threshold_that_is_no_distance(threshold):
    with pytest.raises(ValueError, match=r"`threshold` .*Received: threshold="):
        plot_error_rates(with_rates(), threshold=threshold)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in "matplotlib", "matplotlib.pyplot":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        plot_error_rates(with_rates())
