"""The figures show the curves that an evaluation holds."""

import math
import sys

import matplotlib.pyplot as plt
import numpy as np
import oracles
import pytest
from figures import assert_legible, curves, error_rates, evaluation, legend_texts, lines

from keras_tcm.visualization import plot_utility, plot_utility_comparison


def utilities(segments):
    return sorted(segment[:, 1].tolist() for segment in segments)


def span(ax):
    """The shaded thresholds."""
    (patch,) = ax.patches
    assert patch.get_label() == "calibration range"
    return patch.get_x(), patch.get_x() + patch.get_width()


def with_rates(first=0.1, last=0.8, **changes):
    """An evaluation that knows rates at more thresholds, a step of 0.05 apart."""
    number = round((last - first) / 0.05) + 1
    rates = error_rates(np.linspace(first, last, number))
    return evaluation(error_rates=rates, **changes)


@pytest.mark.parametrize(
    ("num_classes", "epsilon", "num_worst"), [(20, 0.1, 2), (20, 0.3, 6), (4, 0.1, 1)]
)
def test_every_class_has_a_curve_and_the_worst_stand_out(
    num_classes, epsilon, num_worst
):
    result = evaluation(num_classes, epsilon=epsilon)
    drawn = curves(plot_utility(result))
    assert len(drawn) == 2
    worst, others = sorted(drawn.values(), key=len)
    # The area under the curve, by the trapezoid rule.
    area = (result.utility[:, 1:] + result.utility[:, :-1]).sum(axis=1)
    order = np.argsort(area)
    assert utilities(worst) == sorted(result.utility[order[:num_worst]].tolist())
    assert utilities(others) == sorted(result.utility[order[num_worst:]].tolist())
    for segment in worst + others:
        np.testing.assert_allclose(segment[:, 0], result.thresholds)


def test_mean_class_and_legend():
    result = evaluation()
    ax = plot_utility(result)
    mean = lines(ax)["mean class"]
    np.testing.assert_allclose(mean.get_ydata(), result.utility.mean(axis=0))
    np.testing.assert_allclose(mean.get_xdata(), result.thresholds)
    assert legend_texts(ax) == [
        "calibration range",
        "classes",
        "worst 10% of classes",
        "mean class",
    ]


def test_axes_show_the_calibration_range_and_say_what_they_are():
    result = evaluation(low=0.3)
    ax = plot_utility(result)
    assert span(ax) == pytest.approx((0.3, 0.7))
    # And a little to its sides.
    assert ax.get_xlim() == pytest.approx((0.284, 0.716))
    low, high = ax.get_ylim()
    assert low == 0
    assert 1 <= high < 1.1
    assert "cosine" in ax.get_xlabel()
    assert "utility" in ax.get_ylabel()
    assert "0.0123" in ax.get_title()
    assert "0.0456" in ax.get_title()


# ------------------------------------------------------------------------- a threshold


def test_threshold_in_the_range():
    result = evaluation()
    ax = plot_utility(result, threshold=0.35)
    line = lines(ax)["threshold 0.3500"]
    assert line.get_xdata() == [0.35, 0.35]
    assert legend_texts(ax)[-1] == "threshold 0.3500"
    assert ax.get_xlim() == plot_utility(result).get_xlim()


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.9, 2.0])
def test_the_axes_reach_out_to_a_threshold_beyond_the_range(threshold):
    ax = plot_utility(evaluation(), threshold=threshold)
    low, high = ax.get_xlim()
    assert low < min(threshold, 0.2)
    assert high > max(threshold, 0.7)
    assert span(ax) == pytest.approx((0.2, 0.7))
    assert f"threshold {threshold:.4f}" in lines(ax)


def test_curves_beyond_the_range_are_those_of_the_error_rates():
    result = with_rates(beta=2.0)
    rates = result.error_rates
    # To the left end of what is known, and little farther than the range on the right.
    ax = plot_utility(result, threshold=0.12)
    segments = [segment for some in curves(ax).values() for segment in some]
    assert len(segments) == 20
    shown = slice(0, 14)
    assert rates.thresholds[[0, 13]] == pytest.approx([0.1, 0.75])
    expected = [
        [oracles.utility(1 - frr, 1 - far, 2.0) for far, frr in zip(*row, strict=True)]
        for row in zip(
            rates.per_class_far[:, shown].astype(float).tolist(),
            rates.per_class_frr[:, shown].astype(float).tolist(),
            strict=True,
        )
    ]
    np.testing.assert_allclose(utilities(segments), sorted(expected))
    for segment in segments:
        np.testing.assert_allclose(segment[:, 0], rates.thresholds[shown])
    mean = lines(ax)["mean class"].get_ydata()
    np.testing.assert_allclose(mean, np.mean(expected, axis=0))


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -0.1, 2.1])
def test_threshold_that_is_no_distance(threshold):
    with pytest.raises(ValueError, match=r"`threshold` .*\[0, 2\].*Received: thresh"):
        plot_utility(evaluation(), threshold=threshold)
    assert not plt.get_fignums()


@pytest.mark.parametrize("threshold", ["0.3", True, [0.3]])
def test_threshold_that_is_no_number(threshold):
    with pytest.raises(TypeError, match=r"`threshold` .*Received: threshold="):
        plot_utility(evaluation(), threshold=threshold)


# -------------------------------------------------------------------------------- axes


def test_given_axes_are_drawn_on():
    _, (left, right) = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert plot_utility(evaluation(), ax=right) is right
    assert plot_utility(evaluation(), ax=left) is left
    assert plt.get_fignums() == before
    for ax in left, right:
        assert sum(len(segments) for segments in curves(ax).values()) == 20


def test_new_axes_by_default():
    first, second = plot_utility(evaluation()), plot_utility(evaluation())
    assert first.figure is not second.figure


def test_light_and_dark(style):
    assert_legible(plot_utility(evaluation(), threshold=0.3).figure)
    assert_legible(plot_utility_comparison({"a": evaluation(), "b": evaluation(9)}))


# ------------------------------------------------------------------------ many classes


def test_bands_of_many_classes():
    """With 1001 classes, 50 are below the middle 90% of them, and 250 below 50%."""
    result = evaluation(1001)
    ax = plot_utility(result)
    in_order = np.sort(result.utility, axis=0)
    bands = {x.get_label(): x for x in ax.collections if "middle" in x.get_label()}
    assert list(bands) == ["middle 90% of classes", "middle 50% of classes"]
    for band, rank in zip(bands.values(), (50, 250), strict=True):
        (path,) = band.get_paths()
        for k, threshold in enumerate(result.thresholds):
            heights = path.vertices[np.isclose(path.vertices[:, 0], threshold), 1]
            expected = in_order[[rank, 1000 - rank], k]
            assert [heights.min(), heights.max()] == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("num_classes", "num_curves", "label"),
    [
        (501, 50, "worst 10% of classes"),
        (1009, 100, "worst 10% of classes"),
        (5000, 100, "100 worst classes"),
    ],
)
def test_the_worst_of_many_classes_have_curves(num_classes, num_curves, label):
    result = evaluation(num_classes)
    ax = plot_utility(result)
    (worst,) = curves(ax).values()
    area = (result.utility[:, 1:] + result.utility[:, :-1]).sum(axis=1)
    order = np.argsort(area)[:num_curves]
    assert utilities(worst) == sorted(result.utility[order].tolist())
    assert label in legend_texts(ax)
    assert "classes" not in legend_texts(ax)


def test_five_hundred_classes_have_a_curve_each():
    assert sum(map(len, curves(plot_utility(evaluation(500))).values())) == 500


def test_ten_thousand_classes_can_be_drawn():
    ax = plot_utility(evaluation(10_000, 101))
    ax.figure.canvas.draw()
    assert np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].std() > 20


# -------------------------------------------------------------------------- comparison


def test_comparison_has_a_panel_for_each():
    figure = plot_utility_comparison(
        {"without": evaluation(low=0.3), "with": evaluation(12, low=0.5)}
    )
    # No classes in common, no change.
    left, right = figure.axes
    assert left.get_title().startswith("without\n")
    assert right.get_title().startswith("with\n")
    assert span(left) == pytest.approx((0.3, 0.7))
    assert span(right) == pytest.approx((0.5, 0.7))
    assert left.get_ylim() == right.get_ylim()
    # A little beyond both ranges.
    assert left.get_xlim() == right.get_xlim() == pytest.approx((0.284, 0.716))
    counts = [sum(map(len, curves(ax).values())) for ax in figure.axes]
    assert counts == [20, 12]
    figure.canvas.draw()


@pytest.mark.parametrize("order", [1, -1])
def test_comparison_shows_the_lowest_utility_of_all(order):
    low = evaluation(utility=np.linspace(0.35, 0.9, 220).reshape(20, 11))
    high = evaluation(utility=np.linspace(0.75, 0.9, 220).reshape(20, 11))
    figure = plot_utility_comparison(dict([("a", low), ("b", high)][::order]))
    assert {ax.get_ylim()[0] for ax in figure.axes[:2]} == {0.3}


def test_curves_reach_over_the_common_thresholds():
    """Also beyond the calibration range of their own model, as far as known."""
    narrow = with_rates(
        calibration_range=(0.4, 0.5), thresholds=np.linspace(0.4, 0.5, 11)
    )
    figure = plot_utility_comparison({"a": narrow, "b": evaluation()})
    left, right, _ = figure.axes
    low, high = left.get_xlim()
    assert (low, high) == right.get_xlim()
    for segments in curves(left).values():
        for segment in segments:
            assert segment[0, 0] < low
            assert segment[-1, 0] > high


def test_change_of_each_class_by_hand():
    """Between 0.2 and 0.7; the mean of a straight line is that of its ends."""
    before = np.linspace([0.2, 0.4, 0.6, 0.5], [0.4, 0.8, 0.8, 0.7], 11, axis=1)
    after = np.linspace([0.9, 0.2, 0.5, 0.5], [0.9, 0.6, 0.7, 0.7], 11, axis=1)
    # Means 0.3, 0.6, 0.7, 0.6 and 0.9, 0.4, 0.6, 0.6; matched by label.
    order = [2, 0, 3, 1]
    figure = plot_utility_comparison(
        {
            "a": evaluation(4, utility=before, opis=0.02, epsilon_opis=0.05),
            "b": evaluation(
                4,
                utility=after[order],
                classes=np.array(order),
                opis=0.015,
                epsilon_opis=0.06,
            ),
        }
    )
    panel = figure.axes[2]
    gains, losses = panel.patches
    np.testing.assert_allclose(gains.get_data().values, [0.6, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(losses.get_data().values, [0, 0, -0.1, -0.2], atol=1e-12)
    texts = [text.get_text() for text in panel.texts]
    assert texts == ["1 classes gain", "2 classes lose"]
    assert panel.get_title().endswith("OPIS -25.0%, 10%-OPIS +20.0%")


def test_change_can_be_left_out():
    results = {"a": evaluation(), "b": evaluation(seed=1)}
    assert len(plot_utility_comparison(results).axes) == 3
    assert len(plot_utility_comparison(results, show_change=False).axes) == 2
    # Between three models there are several changes.
    assert len(plot_utility_comparison({**results, "c": evaluation()}).axes) == 3
    others = evaluation(classes=np.arange(20) + 1)
    assert len(plot_utility_comparison({"a": evaluation(), "b": others}).axes) == 2


@pytest.mark.parametrize("opis", [0.0, -1e-6])
def test_change_of_no_opis_is_not_told(opis):
    """The estimate of a sample can be 0 or below."""
    results = {"a": evaluation(opis=opis), "b": evaluation(seed=1)}
    title = plot_utility_comparison(results).axes[2].get_title()
    assert title.endswith("\n10%-OPIS +0.0%")


def test_no_legend_lies_over_the_classes():
    figure = plot_utility_comparison({"a": evaluation(), "b": evaluation(seed=1)})
    figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "calibration range",
        "classes",
        "worst 10% of classes",
        "mean class",
    ]
    axes = [ax.get_window_extent() for ax in figure.axes]
    assert not legend.get_window_extent().count_overlaps(axes)
    ax = plot_utility(evaluation(), threshold=0.3)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert not box.count_overlaps([ax.get_window_extent()])
    # And not outside of the figure.
    assert box.y0 >= 0


def test_distances_must_agree():
    results = {"a": evaluation(), "b": evaluation(distance="euclidean")}
    with pytest.raises(ValueError, match=r"`evaluations` .*cosine, euclidean"):
        plot_utility_comparison(results)


def test_comparison_of_one():
    assert len(plot_utility_comparison({"only": evaluation()}).axes) == 1


def test_names_are_shown_as_they_are():
    """A name is not a formula: `$` in it neither vanishes nor fails."""
    name = "cost $_{x$ of a_b^"
    figure = plot_utility_comparison({name: evaluation()})
    figure.canvas.draw()
    assert figure.axes[0].get_title().startswith(f"{name}\n")


def test_empty_comparison():
    with pytest.raises(ValueError, match=r"`evaluations`.*Received: "):
        plot_utility_comparison({})


@pytest.mark.parametrize(
    "draw",
    [
        plot_utility,
        lambda result: plot_utility_comparison({"a": result}),
    ],
    ids=["plot_utility", "comparison"],
)
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, draw):
    for name in "matplotlib", "matplotlib.pyplot", "matplotlib.collections":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        draw(evaluation())
