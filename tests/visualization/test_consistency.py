"""The figure of consistency against recognition shows the models it is given."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import assert_legible
from matplotlib.colors import to_hex

from keras_tcm.visualization import ConsistencyPoint, plot_consistency


def pair(loss="smooth_ap", batch_size=64, recall=(0.8, 0.9), opis=(0.004, 0.002)):
    return [
        ConsistencyPoint(loss, batch_size, has_tcm, recall[has_tcm], opis[has_tcm])
        for has_tcm in (False, True)
    ]


def markers(ax):
    """Place, area, colour and number of corners of each marker."""
    found = []
    for collection in ax.collections:
        (place,) = np.asarray(collection.get_offsets())
        (path,) = collection.get_paths()
        found.append(
            (
                tuple(place.tolist()),
                float(collection.get_sizes()[0]),
                to_hex(collection.get_facecolor()[0]),
                len(path.vertices),
            )
        )
    return found


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_places_are_error_in_percent_and_opis():
    ax = plot_consistency(pair())
    places = sorted(place for place, *_ in markers(ax))
    assert places[0] == pytest.approx((10.0, 0.002))
    assert places[1] == pytest.approx((20.0, 0.004))
    assert "%" in ax.get_xlabel()
    assert "R@1" in ax.get_xlabel()
    assert "OPIS" in ax.get_ylabel()
    assert ax.get_yscale() == "log"


def test_triangles_have_tcm_and_circles_have_not():
    corners = {
        place[1]: count for place, _, _, count in markers(plot_consistency(pair()))
    }
    # The path of a triangle ends where it began.
    assert corners[0.002] == 4
    assert corners[0.004] > 10


def test_line_joins_the_two_models_of_a_pair():
    other = pair("other", opis=(0.01, 0.02))
    alone = pair("alone")[:1]
    ax = plot_consistency([*pair(), *other, *alone])
    ends = sorted(tuple(line.get_ydata()) for line in ax.lines)
    assert ends == [(0.004, 0.002), (0.01, 0.02)]
    assert len(markers(ax)) == 5


def test_losses_have_colours_and_batch_sizes_have_areas():
    points = [
        *pair("a", 32, opis=(0.001, 0.002)),
        *pair("b", 32, opis=(0.003, 0.004)),
        *pair("a", 128, opis=(0.005, 0.006)),
        *pair("a", 512, opis=(0.007, 0.008)),
    ]
    found = {
        place[1]: (area, color)
        for place, area, color, _ in markers(plot_consistency(points))
    }
    colors = {opis: color for opis, (_, color) in found.items()}
    assert colors[0.001] == colors[0.002] == colors[0.005] == colors[0.008]
    assert colors[0.003] == colors[0.004] != colors[0.001]
    areas = {opis: area for opis, (area, _) in found.items()}
    assert areas[0.001] == areas[0.004] < areas[0.006] < areas[0.007]
    # Evenly in the logarithm of the batch size.
    assert areas[0.005] - areas[0.001] == pytest.approx(areas[0.007] - areas[0.005])


def test_legend():
    ax = plot_consistency([*pair("a", 32), *pair("b_c", 8)])
    assert legend_texts(ax) == [
        *("base loss", "a", "b_c"),
        *("TCM", "without", "with"),
        *("batch size", "8", "32"),
    ]


def test_legend_stands_beside_the_axes_inside_the_figure():
    points = [*pair("supervised_contrastive", 32), *pair("a", 4096)]
    ax = plot_consistency(points)
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.x1 <= ax.figure.bbox.x1
    assert legend.y0 >= ax.figure.bbox.y0


@pytest.mark.parametrize("factor", [1.2, 3, 100])
def test_axis_has_several_labels_whatever_it_spans(factor):
    ax = plot_consistency(pair(opis=(0.002, 0.002 * factor)))
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    labels = [
        label.get_text()
        for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert 2 <= len([label for label in labels if label]) <= 20
    for label in labels:
        float(label)


def test_given_axes_are_drawn_on():
    _, (left, right) = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert plot_consistency(pair(), ax=right) is right
    assert plt.get_fignums() == before
    assert len(markers(right)) == 2
    assert not left.collections


def test_one_model_is_enough_and_names_are_no_formulas():
    ax = plot_consistency(pair("cost $_{x$")[:1])
    ax.figure.canvas.draw()
    assert "cost $_{x$" in legend_texts(ax)


def test_any_iterable_of_points_will_do():
    assert len(markers(plot_consistency(point for point in pair()))) == 2


@pytest.mark.parametrize(
    ("points", "received"),
    [
        ([], "0 base losses"),
        ([p for n in range(8) for p in pair(str(n))], "8 base losses"),
        ([*pair(), *pair()[:1]], "smooth_ap"),
    ],
)
def test_points_that_cannot_be_shown(points, received):
    with pytest.raises(ValueError, match=rf"`points`.*Received: .*{received}"):
        plot_consistency(points)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"recall": 80.0}, "recall"),
        ({"recall": float("nan")}, "recall"),
        ({"opis": 0.0}, "opis"),
        ({"opis": -0.1}, "opis"),
    ],
)
def test_points_that_cannot_be(options, name):
    values = {"batch_size": 32, "recall": 0.8, "opis": 0.01, **options}
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
        ConsistencyPoint("a", has_tcm=True, **values)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in "matplotlib", "matplotlib.pyplot":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        plot_consistency(pair())


def test_light_and_dark(style):
    assert_legible(plot_consistency(pair() + pair("triplet")).figure)
