"""The figures show the curves that an evaluation holds."""

import sys

import matplotlib
import numpy as np
import pytest

from keras_tcm import Evaluation
from keras_tcm.visualization import plot_utility, plot_utility_comparison

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex


def evaluation(num_classes=20, num_thresholds=11, epsilon=0.1, low=0.2, seed=0):
    """Random curves; only what figures show has meaning."""
    utility = np.random.default_rng(seed).uniform(size=(num_classes, num_thresholds))
    return Evaluation(
        opis=0.0123,
        epsilon_opis=0.0456,
        opis_per_class=np.full(num_classes, 0.0123),
        recall={1: 0.5},
        map_at_r=0.4,
        eer=0.1,
        calibration_range=(low, 0.7),
        thresholds=np.linspace(low, 0.7, num_thresholds),
        utility=utility,
        classes=list(range(num_classes)),
        class_counts=np.full(num_classes, 5),
        operating_points=(),
        num_samples=5 * num_classes,
        num_excluded_classes=0,
        num_positive_pairs=10 * num_classes,
        num_negative_pairs=100,
        distance="cosine",
        beta=1.0,
        epsilon=epsilon,
    )


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def curves(ax):
    """The curves drawn, by colour."""
    drawn = {}
    for collection in ax.collections:
        if isinstance(collection, LineCollection) and len(collection.get_segments()):
            (color,) = {to_hex(rgba) for rgba in collection.get_colors()}
            drawn.setdefault(color, []).extend(collection.get_segments())
    return drawn


def utilities(segments):
    return sorted(segment[:, 1].tolist() for segment in segments)


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
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(
        lines["mean class"].get_ydata(), result.utility.mean(axis=0)
    )
    np.testing.assert_allclose(lines["mean class"].get_xdata(), result.thresholds)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["classes", "worst 10% of classes", "mean class"]


def test_axes_span_the_calibration_range_and_say_what_they_are():
    result = evaluation(low=0.31)
    ax = plot_utility(result)
    assert ax.get_xlim() == pytest.approx((0.31, 0.7))
    low, high = ax.get_ylim()
    assert low == 0
    assert 1 <= high < 1.1
    assert "cosine" in ax.get_xlabel()
    assert "utility" in ax.get_ylabel()
    assert "0.0123" in ax.get_title()
    assert "0.0456" in ax.get_title()


def test_given_axes_are_drawn_on():
    _, (left, right) = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert plot_utility(evaluation(), ax=right) is right
    assert evaluation().plot_utility(ax=left) is left
    assert plt.get_fignums() == before
    for ax in left, right:
        assert sum(len(segments) for segments in curves(ax).values()) == 20


def test_new_axes_by_default():
    first, second = plot_utility(evaluation()), evaluation().plot_utility()
    assert first.figure is not second.figure


def test_five_thousand_classes_can_be_drawn():
    ax = plot_utility(evaluation(5000, 101))
    ax.figure.canvas.draw()
    assert sum(len(segments) for segments in curves(ax).values()) == 5000
    assert np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].std() > 20


def test_comparison_has_a_panel_for_each():
    figure = plot_utility_comparison(
        {"without": evaluation(low=0.3), "with": evaluation(12, low=0.5)}
    )
    left, right = figure.axes
    assert left.get_title().startswith("without\n")
    assert right.get_title().startswith("with\n")
    assert left.get_xlim() == pytest.approx((0.3, 0.7))
    assert right.get_xlim() == pytest.approx((0.5, 0.7))
    assert left.get_ylim() == right.get_ylim()
    counts = [sum(map(len, curves(ax).values())) for ax in figure.axes]
    assert counts == [20, 12]
    figure.canvas.draw()


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
        lambda result: result.plot_utility(),
        lambda result: plot_utility_comparison({"a": result}),
    ],
    ids=["plot_utility", "method", "comparison"],
)
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, draw):
    for name in "matplotlib", "matplotlib.pyplot", "matplotlib.collections":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        draw(evaluation())
