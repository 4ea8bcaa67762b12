"""The figure of the classes' best thresholds counts every class in its place."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import assert_legible, evaluation, legend_texts

from keras_tcm.evaluation import ErrorRates
from keras_tcm.visualization import plot_class_thresholds

THRESHOLDS = np.linspace(0.1, 0.9, 81)


def peaks(places, highest=0.9, thresholds=THRESHOLDS):
    """Utility of classes that are best at given thresholds."""
    return highest - np.abs(np.asarray(places)[:, None] - thresholds)


def with_utility(utility, thresholds=THRESHOLDS):
    """An evaluation without false rejections: F-beta depends on the FAR alone."""
    # 2 s / (1 + s) = u.
    specificity = utility / (2 - utility)
    rates = ErrorRates(
        thresholds,
        far=1 - specificity.mean(axis=0),
        frr=np.zeros(len(thresholds)),
        # Float64: a utility is what it was.
        per_class_far=1 - specificity,
        per_class_frr=np.zeros(specificity.shape),
    )
    return evaluation(len(utility), 41, low=0.3, error_rates=rates)


def bars(ax):
    """Counts and edges of the bars inside, and the counts of the two outside."""
    (stairs,) = [x for x in ax.patches if x.get_label() == "classes"]
    (outer,) = ax.containers
    values, edges, _ = stairs.get_data()
    return values, edges, [bar.get_height() for bar in outer]


def test_each_class_is_counted_where_it_is_best():
    places = np.random.default_rng(0).uniform(0.12, 0.88, 400)
    ax = plot_class_thresholds(with_utility(peaks(places)))
    counts, edges, outside = bars(ax)
    assert edges[[0, -1]] == pytest.approx([0.1, 0.9])
    # The nearest of the thresholds is the best of them.
    nearest = np.round(places, 2)
    clear = np.abs(nearest[:, None] - edges).min(axis=1) > 1e-9
    expected, _ = np.histogram(nearest, edges)
    assert counts.sum() == 400
    assert outside == [0, 0]
    assert np.abs(counts - expected).sum() <= 2 * (~clear).sum()
    assert "400" in ax.get_title()


def test_classes_that_are_best_at_an_end_are_set_apart():
    places = [0.1, 0.05, -0.3, 0.5, 0.52, 0.9, 1.4]
    ax = plot_class_thresholds(with_utility(peaks(places)))
    counts, edges, outside = bars(ax)
    assert outside == [3, 2]
    assert counts.sum() == 2
    left, right = ax.containers[0]
    assert left.get_x() + left.get_width() < edges[0]
    assert right.get_x() > edges[-1]
    assert left.get_hatch()
    assert [text.get_text() for text in ax.texts] == ["3", "2"]


def test_thresholds_that_differ_by_a_pair_are_one_end():
    """The last two thresholds may be an operating point and the end of the range."""
    thresholds = np.append(THRESHOLDS, 0.9 + 1e-6)
    utility = np.linspace(0.5, 0.9, 82)[None] * np.ones((3, 1))
    # One negative pair more at the very last.
    utility[:, -1] = utility[:, -2] - 1e-7
    _, _, outside = bars(plot_class_thresholds(with_utility(utility, thresholds)))
    assert outside == [0, 3]


def test_a_class_that_is_as_good_at_several_is_best_in_their_middle():
    utility = np.minimum(peaks([0.5, 0.5]), 0.8)
    counts, edges, outside = bars(plot_class_thresholds(with_utility(utility)))
    assert outside == [0, 0]
    assert counts[np.searchsorted(edges, 0.505) - 1] == 2
    assert counts.sum() == 2


def test_a_class_that_is_equally_good_everywhere_rises_towards_neither_end():
    utility = np.full((2, 81), 0.7)
    counts, _, outside = bars(plot_class_thresholds(with_utility(utility)))
    assert outside == [0, 0]
    assert counts.sum() == 2


def test_nothing_is_better_than_perfect():
    """Beyond the end, a class with utility 1 cannot be better."""
    utility = np.minimum(peaks([0.9, 0.1, 0.9], highest=1.1), 1.0)
    utility[2] -= 0.01
    _, _, outside = bars(plot_class_thresholds(with_utility(utility)))
    assert outside == [0, 1]


def test_best_threshold_of_the_mean_class():
    """The mean of two tents is highest between their tops, and so in the middle."""
    ax = plot_class_thresholds(with_utility(peaks([0.3, 0.6, 0.6])))
    (line,) = ax.lines
    assert line.get_xdata() == pytest.approx([0.6, 0.6])
    assert "best for the mean class, 0.6000" in legend_texts(ax)


def test_where_the_calibration_range_is_all_that_is_known():
    result = evaluation(
        3, 41, utility=peaks([0.3, 0.5, 0.8], 0.9, np.linspace(0.2, 0.7, 41))
    )
    ax = plot_class_thresholds(result)
    counts, edges, outside = bars(ax)
    assert edges[[0, -1]] == pytest.approx([0.2, 0.7])
    assert outside == [0, 1]
    assert counts.sum() == 2
    (span,) = [x for x in ax.patches if x.get_label() == "calibration range"]
    assert [span.get_x(), span.get_x() + span.get_width()] == pytest.approx([0.2, 0.7])


def test_names_of_the_classes_in_the_outer_bars():
    """Four of six below all others, and the one that is highest of those inside."""
    places = [0.05, 0.5, 0.1, 0.52, 0.0, 0.1, 0.7, -0.3, 0.1]
    names = {i: f"${name}" for i, name in enumerate("abcdefghi")}
    ax = plot_class_thresholds(with_utility(peaks(places)), class_names=names)
    assert ax.get_xlabel().splitlines()[1:] == [
        "lowest: $a, $c, $e, $f and 2 more",
        "highest: $g",
    ]
    ax.figure.canvas.draw()
    assert len(plot_class_thresholds(with_utility(peaks(places))).get_xlabel()) < 40


def test_class_without_a_name():
    with pytest.raises(ValueError, match=r"`class_names` .*without 1"):
        plot_class_thresholds(with_utility(peaks([0.4, 0.5])), class_names=["a"])


def test_axes():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_class_thresholds(with_utility(peaks([0.4])), ax=right) is right
    assert len(plt.get_fignums()) == 1
    assert not left.patches
    assert "cosine" in right.get_xlabel()


def test_ten_thousand_classes_can_be_drawn():
    places = np.random.default_rng(0).normal(0.5, 0.2, 10_000)
    ax = plot_class_thresholds(with_utility(peaks(places, highest=0.95).clip(0)))
    counts, _, outside = bars(ax)
    assert counts.sum() + sum(outside) == 10_000
    ax.figure.canvas.draw()


def test_light_and_dark(style):
    assert_legible(plot_class_thresholds(with_utility(peaks([0.4, 0.1]))).figure)
