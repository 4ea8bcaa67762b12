"""The figure of neighbours shows the nearest, and what the threshold does to them."""

import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import oracles
import pytest
from figures import assert_legible
from matplotlib.colors import to_hex
from PIL import Image

from keras_tcm import evaluate_embeddings
from keras_tcm.visualization import plot_neighbors


def at(degrees, norm=1.0):
    angles = np.radians(degrees)
    return norm * np.stack([np.cos(angles), np.sin(angles)], axis=1)


# Around the circle; the image of sample i is of the grey value i.
DEGREES = [0, 10, 25, 60, 100, 180]
X = at(DEGREES)
LABELS = list("aabaab")
IMAGES = np.broadcast_to(np.arange(6, dtype="uint8")[:, None, None, None], (6, 4, 4, 1))
# 30 degrees.
THRESHOLD = 1 - math.sqrt(0.75)


def cells(figure):
    """Rows of what is shown: grey value, title, note, boldness, colour, line, alpha."""
    found = {}
    for ax in figure.axes:
        (image,) = ax.images
        spine = ax.spines["left"]
        found.setdefault(ax.get_subplotspec().rowspan.start, []).append(
            {
                "value": int(np.asarray(image.get_array())[0, 0, 0]),
                "title": ax.get_title(),
                "note": ax.get_xlabel(),
                "bold": ax.xaxis.label.get_fontweight() == "bold",
                "color": to_hex(spine.get_edgecolor()) if spine.get_visible() else None,
                "dashed": spine.get_linestyle() not in ("-", "solid"),
                "alpha": image.get_alpha(),
            }
        )
    return [found[row] for row in sorted(found)]


def column(row, name):
    return [cell[name] for cell in row]


@pytest.mark.parametrize("names", [{"a": "$first", "b": "second"}, None])
def test_names_of_the_classes(names):
    figure = plot_neighbors(X, LABELS, IMAGES, [2], THRESHOLD, 2, class_names=names)
    ((query, *others),) = cells(figure)
    a, b = ("$first", "second") if names else ("a", "b")
    assert [query["title"], *column(others, "title")] == [b, f"≠ {a}", f"≠ {a}"]


def test_neighbours_in_order_and_their_marks():
    """From 0 degrees: 10 and 25 are within 30, the others are not."""
    ((query, *others),) = cells(plot_neighbors(X, LABELS, IMAGES, [0], THRESHOLD, 5))
    assert (query["value"], query["title"], query["note"]) == (0, "a", "query")
    assert query["color"] is None
    assert column(others, "value") == [1, 2, 3, 4, 5]
    assert column(others, "title") == ["= a", "≠ b", "= a", "= a", "≠ b"]
    expected = [1 - math.cos(math.radians(degrees)) for degrees in DEGREES[1:]]
    decisions = ["accepted"] * 2 + ["rejected"] * 3
    assert column(others, "note") == [
        f"{distance:.3f}\n{decision}"
        for distance, decision in zip(expected, decisions, strict=True)
    ]
    # Another class accepted, and the same class rejected.
    assert column(others, "bold") == [False, True, True, True, False]
    assert column(others, "dashed") == [False, True, False, False, True]
    same, other = "#0072b2", "#d55e00"
    assert column(others, "color") == [same, other, same, same, other]
    accepted, rejected = query["alpha"], others[-1]["alpha"]
    assert rejected < accepted == 1
    assert column(others, "alpha") == [accepted] * 2 + [rejected] * 3


def test_rows_are_the_queries():
    queries = [5, 2, 2]
    found = cells(plot_neighbors(X, LABELS, IMAGES, queries, 0.1, num_neighbors=2))
    assert [column(row, "value") for row in found] == [[5, 4, 3], [2, 1, 0], [2, 1, 0]]


def test_euclidean_distances_accept_at_their_own_scale():
    """The chord of 30 degrees."""
    threshold = 2 * math.sin(math.radians(15))
    figure = plot_neighbors(
        X, LABELS, IMAGES, [0], threshold, num_neighbors=3, distance="euclidean"
    )
    ((_, *others),) = cells(figure)
    assert column(others, "note") == [
        f"{2 * math.sin(math.radians(degrees / 2)):.3f}\n{decision}"
        for degrees, decision in ((10, "accepted"), (25, "accepted"), (60, "rejected"))
    ]
    assert "euclidean distance 0.5176" in figure.get_suptitle()


def test_neighbours_are_those_of_all_similarities(monkeypatch):
    monkeypatch.setattr("keras_tcm.evaluation._counting.single_measures.CHUNK_ROWS", 16)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) * rng.uniform(0.1, 5, (50, 1))
    y = rng.integers(0, 4, 50)
    images = np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)
    threshold = 0.4
    found = cells(plot_neighbors(x, y, images, [7, 31], threshold, num_neighbors=9))
    s = oracles.similarities(x)
    for query, (_, *others) in zip((7, 31), found, strict=True):
        order = sorted(set(range(50)) - {query}, key=lambda i: -s[query, i])[:9]
        assert column(others, "value") == order
        for neighbor, cell in zip(order, others, strict=True):
            is_same = y[neighbor] == y[query]
            assert cell["title"] == f"{'=' if is_same else '≠'} {y[neighbor]}"
            is_accepted = 1 - s[query, neighbor] <= threshold
            assert ("accepted" in cell["note"]) == is_accepted
            assert cell["bold"] == (is_accepted != is_same)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_decisions_are_those_of_the_evaluation(distance):
    """At the threshold of an operating point, just below a negative pair."""
    rng = np.random.default_rng(3)
    y = np.repeat(np.arange(3), 2)
    x = rng.normal(size=(3, 4))[y] + 0.8 * rng.normal(size=(6, 4))
    result = evaluate_embeddings(
        x,
        y,
        far_range=(0.1, 0.5),
        far_targets=(0.3,),
        distance=distance,
        verbose=False,
    )
    images = np.zeros((6, 2, 2, 1), "uint8")
    for point in result.operating_points:
        figure = plot_neighbors(
            x, y, images, range(6), point.threshold, 5, distance=distance
        )
        accepted = [
            cell["title"]
            for _, *others in cells(figure)
            for cell in others
            if "accepted" in cell["note"]
        ]
        wrong = sum("≠" in title for title in accepted)
        # Each pair from both of its ends.
        assert wrong / 2 == pytest.approx(point.far * result.num_negative_pairs)
        right = len(accepted) - wrong
        positives = result.num_positive_pairs
        assert right / 2 == pytest.approx((1 - point.frr) * positives)
        plt.close(figure)


def test_equal_embeddings_come_in_order_of_their_index():
    x = at([40, 0, 0, 0])
    images = IMAGES[:4]
    ((_, *others),) = cells(plot_neighbors(x, [0] * 4, images, [2], 0.1, 3))
    assert column(others, "value") == [1, 3, 0]


@pytest.mark.parametrize(
    "labels",
    [
        ["$_{a", "$_{a", "b^$", "$_{a", "$_{a", "b^$"],
        [(0, None), (0, None), "b", (0, None), (0, None), "b"],
        np.array([0, 0, 1, 0, 0, 1])[:, None],
        ["one very long name", "one very long name", *"baab"],
    ],
    ids=["formulas", "mixed", "column", "long"],
)
def test_labels_of_any_kind(labels):
    ((query, *others),) = cells(plot_neighbors(X, labels, IMAGES, [0], THRESHOLD, 2))
    text = str(labels[0][0] if isinstance(labels, np.ndarray) else labels[0])
    shown = text if len(text) <= 14 else f"{text[:13]}…"
    assert query["title"] == shown
    assert others[0]["title"] == f"= {shown}"
    assert others[1]["title"].startswith("≠ ")


def test_paths_and_tensors(tmp_path):
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        Image.new("L", (4, 4), i).save(paths[-1])
    tensor = keras.ops.convert_to_tensor(X)
    queries = keras.ops.convert_to_tensor([0, 3])
    labels = keras.ops.convert_to_tensor([0, 0, 1, 0, 0, 1])
    found = cells(plot_neighbors(tensor, labels, paths, queries, THRESHOLD, 2))
    assert [column(row, "value") for row in found] == [[0, 1, 2], [3, 2, 4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embeddings": X[0]}, "`embeddings`"),
        ({"labels": LABELS[1:]}, "`labels` .*6.*Received: 5"),
        ({"images": IMAGES[1:]}, "`images` .*6.*Received: 5"),
        ({"images": IMAGES / 255}, r"`images` .*\[0, 255\]"),
        ({"queries": []}, r"`queries` .*at least one.*Received: queries=\[\]"),
        ({"queries": [6]}, r"`queries` .*below 6.*Received: queries=\[6\]"),
        ({"queries": [-1]}, "`queries` .*Received: queries=-1"),
        ({"threshold": math.nan}, "`threshold` .*nan"),
        ({"threshold": 2.1}, "`threshold` .*2.1"),
        ({"num_neighbors": 0}, "`num_neighbors`"),
        ({"num_neighbors": 6}, "`num_neighbors` .*6.*Received: num_neighbors=6"),
        ({"distance": "dot"}, "`distance`"),
    ],
)
def test_wrong_values(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "options",
    [
        {"queries": 0},
        {"queries": [0.0]},
        {"queries": ["a"]},
        {"queries": [[0]]},
        {"queries": [True]},
        {"threshold": "0.1"},
        {"threshold": None},
        {"num_neighbors": 2.0},
    ],
    ids=str,
)
def test_wrong_types(options):
    (name,) = options
    with pytest.raises(TypeError, match=f"`{name}` .*Received: {name}="):
        draw(**options)


def draw(**options):
    arguments = {
        "embeddings": X,
        "labels": LABELS,
        "images": IMAGES,
        "queries": [0],
        "threshold": THRESHOLD,
        "num_neighbors": 2,
        **options,
    }
    return plot_neighbors(**arguments)


def test_light_and_dark(style):
    assert_legible(draw(queries=[0, 3], num_neighbors=5))
