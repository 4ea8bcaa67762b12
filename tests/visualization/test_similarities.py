"""The histograms of similarities count the pairs that there are."""

import tracemalloc

import keras
import matplotlib.pyplot as plt
import numpy as np
import oracles
import pytest
from figures import assert_legible, legend_texts, lines

from keras_tcm.visualization import plot_similarities, similarities


def clusters(num_classes=6, size=8, seed=0, dimension=5):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), size)
    x = rng.normal(size=(num_classes, dimension))[y]
    return (x + 0.5 * rng.normal(size=x.shape)).astype("float32"), y


X, Y = clusters()


def pairs(x=X, y=Y):
    """Similarities of the positive and of the negative pairs, one by one."""
    found = {True: [], False: []}
    for distance, one, other in oracles.all_pairs(x, list(y)):
        found[one == other].append(1 - distance)
    return found[True], found[False]


def histogram(ax, name):
    """Densities and edges of the outline with a label."""
    (stairs,) = [x for x in ax.patches if x.get_label() == name]
    values, edges, _ = stairs.get_data()
    return values, edges


def hard(ax, name):
    """Share in the legend, and where the hatched area lies."""
    start = f"hard {name} pairs: "
    (stairs,) = [x for x in ax.patches if x.get_label().startswith(start)]
    values, edges, _ = stairs.get_data()
    assert stairs.get_hatch()
    return stairs.get_label().removeprefix(start), values, edges


def check(ax, x, y):
    """Histograms equal those of an independent count."""
    positive, negative = pairs(x, y)
    for name, expected in ("positive pairs", positive), ("negative pairs", negative):
        densities, edges = histogram(ax, name)
        assert (densities * np.diff(edges)).sum() == pytest.approx(1)
        counts, _ = np.histogram(expected, edges)
        np.testing.assert_allclose(
            densities * np.diff(edges) * len(expected), counts, atol=1e-6
        )


@pytest.mark.parametrize(
    "labels",
    [Y, Y.tolist(), [f"$_{{{i}" for i in Y], [(i, None) for i in Y], Y[:, None]],
    ids=["array", "list", "strings", "tuples", "column"],
)
def test_histograms_of_all_pairs(labels):
    check(plot_similarities(X, labels), X, Y)


def test_order_and_norms_play_no_part():
    rng = np.random.default_rng(1)
    order = rng.permutation(len(Y))
    scaled = X[order] * rng.uniform(0.1, 9, (len(Y), 1))
    check(plot_similarities(scaled, Y[order]), X, Y)


def test_classes_of_one_sample_are_negatives():
    y = Y.copy()
    y[::8] = 100 + np.arange(6)
    check(plot_similarities(X, y), X, y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors(dtype):
    tensor = keras.ops.convert_to_tensor(X, dtype=dtype)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
    check(plot_similarities(tensor, keras.ops.convert_to_tensor(Y)), rounded, Y)


def test_range_spans_all_pairs():
    positive, negative = pairs()
    _, edges = histogram(plot_similarities(X, Y), "positive pairs")
    both = positive + negative
    assert edges[[0, -1]] == pytest.approx([min(both), max(both)], abs=1e-6)


# ----------------------------------------------------------------------------- margins


@pytest.mark.parametrize("margins", [(0.9, 0.5), (0.571, 0.398), (0.2, 0.2)])
def test_margins_and_the_pairs_that_they_make_hard(margins):
    ax = plot_similarities(X, Y, margins)
    positive, negative = pairs()
    drawn = lines(ax)
    share, _, edges = hard(ax, "positive")
    assert share == f"{np.mean(np.array(positive) <= margins[0]):.1%}"
    assert edges[-1] == pytest.approx(margins[0])
    assert drawn[f"positive margin {margins[0]}"].get_xdata() == [margins[0]] * 2
    share, _, edges = hard(ax, "negative")
    assert share == f"{np.mean(np.array(negative) >= margins[1]):.1%}"
    assert edges[0] == pytest.approx(margins[1])
    assert drawn[f"negative margin {margins[1]}"].get_xdata() == [margins[1]] * 2


def test_hatched_areas_are_parts_of_the_histograms():
    ax = plot_similarities(X, Y, (0.6, 0.4))
    for name in "positive", "negative":
        densities, edges = histogram(ax, f"{name} pairs")
        _, hatched, places = hard(ax, name)
        middles = (places[1:] + places[:-1]) / 2
        bins = np.searchsorted(edges, middles) - 1
        np.testing.assert_array_equal(hatched, densities[bins])


def test_margins_with_all_pairs_on_one_side():
    """Positive pairs at 1 and negative ones at 0: none is hard, or all are."""
    x, y = np.eye(3)[[0, 0, 1, 1]], [0, 0, 1, 1]
    ax = plot_similarities(x, y, (0.9, 0.5))
    assert hard(ax, "positive")[0] == "0.0%"
    assert hard(ax, "negative")[0] == "0.0%"
    ax = plot_similarities(x, y, (1.0, 0.0))
    assert hard(ax, "positive")[0] == "100.0%"
    assert hard(ax, "negative")[0] == "100.0%"
    ax = plot_similarities(x, y, (-0.5, -0.5))
    assert legend_texts(ax) == [
        "positive pairs",
        "positive margin -0.5",
        "negative pairs",
        "negative margin -0.5",
        "hard negative pairs: 100.0%",
    ]


def test_without_margins():
    ax = plot_similarities(X, Y)
    assert legend_texts(ax) == ["positive pairs", "negative pairs"]
    assert not ax.lines


# ---------------------------------------------------------------------- large data sets


def test_samples_stand_for_many_pairs(monkeypatch):
    x, y = clusters(40, 20)
    whole = plot_similarities(x, y)
    monkeypatch.setattr(similarities, "_MAX_SAMPLES", 300)
    monkeypatch.setattr(similarities, "_MAX_POSITIVES", 4000)
    some, again = plot_similarities(x, y), plot_similarities(x, y)
    for name in "positive pairs", "negative pairs":
        densities, edges = histogram(some, name)
        np.testing.assert_array_equal(histogram(again, name)[0], densities)
        expected, all_edges = histogram(whole, name)
        assert len(densities) == len(expected)
        # Cumulative, at the same places.
        places = np.linspace(-1, 1, 50)
        gaps = np.interp(
            places, edges[1:], np.cumsum(densities * np.diff(edges))
        ) - np.interp(places, all_edges[1:], np.cumsum(expected * np.diff(all_edges)))
        assert 0 < np.abs(gaps).max() < 0.08


def test_sampled_counts_are_of_whole_pairs(monkeypatch):
    """30 samples that are drawn have 435 pairs; 20 have 7 positive ones each."""
    monkeypatch.setattr(similarities, "_MAX_SAMPLES", 30)
    monkeypatch.setattr(similarities, "_MAX_POSITIVES", 140)
    ax = plot_similarities(X, Y)
    densities, edges = histogram(ax, "positive pairs")
    counts = densities * np.diff(edges) * 140
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)
    assert counts.sum() == pytest.approx(140)
    densities, edges = histogram(ax, "negative pairs")
    least = densities[densities > 0].min() * np.diff(edges)[0]
    assert 1 / least == pytest.approx(round(1 / least), abs=1e-6)
    assert 1 / least <= 435


def test_memory_does_not_grow_with_the_pairs():
    """All similarities of 20,000 samples would be 1.6 GB."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 500, 20_000)
    x = rng.normal(size=(20_000, 8)).astype("float32")
    tracemalloc.start()
    try:
        plot_similarities(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.5e9


# --------------------------------------------------------------------------- threshold


@pytest.mark.parametrize(
    ("threshold", "distance", "similarity"),
    [(0.4, "cosine", 0.6), (1.0, "euclidean", 0.5), (1.9, "cosine", -0.9)],
)
def test_threshold_and_what_it_accepts(threshold, distance, similarity):
    ax = plot_similarities(X, Y, threshold=threshold, distance=distance)
    positive, negative = map(np.array, pairs())
    (label,) = [text for text in legend_texts(ax) if text.startswith("threshold")]
    assert label == (
        f"threshold {threshold:.4f} ({distance} distance) accepts\n"
        f"{np.mean(positive >= similarity):.1%} of positive, "
        f"{np.mean(negative >= similarity):.2%} of negative pairs"
    )
    assert lines(ax)[label].get_xdata() == pytest.approx([similarity] * 2)
    low, high = ax.get_xlim()
    assert low < similarity < high


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": np.nan}, ValueError, "`threshold` .*Received: threshold=nan"),
        ({"threshold": 2.1}, ValueError, "`threshold` .*Received: threshold=2.1"),
        ({"threshold": "0.3"}, TypeError, "`threshold` .*Received: threshold='0.3'"),
        ({"distance": "manhattan"}, ValueError, "`distance` .*manhattan"),
    ],
)
def test_threshold_that_is_no_distance(options, error, message):
    with pytest.raises(error, match=message):
        plot_similarities(X, Y, **options)
    assert not plt.get_fignums()


# -------------------------------------------------------------------------------- axes


def test_axes():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_similarities(X, Y, ax=right) is right
    assert len(plt.get_fignums()) == 1
    assert not left.patches
    assert right.get_xlabel() == "cosine similarity"
    assert plot_similarities(X, Y).figure is not right.figure


def test_light_and_dark(style):
    assert_legible(plot_similarities(X, Y, (0.8, 0.3), threshold=0.4).figure)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], Y), r"`embeddings` .*Received: embeddings.shape=\(5,\)"),
        ((np.full_like(X, np.nan), Y), "`embeddings` must be finite"),
        ((X, Y[1:]), "`labels` .*48.*Received: 47"),
        ((X, np.arange(48)), "`labels` .*two samples.*Received: 48"),
        ((X, np.zeros(48)), "`labels` .*two classes.*Received: 48"),
        ((X, Y, (0.5, 0.9)), r"`margins\[1\]` .*\[-1, 0.5\].*Received: .*0.9"),
        ((X, Y, (1.1, 0.5)), r"`margins\[0\]` .*Received: .*1.1"),
        ((X, Y, (0.5, np.nan)), r"`margins\[1\]` .*Received: .*nan"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_similarities(*arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize("margins", [0.5, (0.5,), (0.9, 0.5, 0.1), ("a", 0.5), "ab"])
def test_margins_that_are_not_two_numbers(margins):
    with pytest.raises(TypeError, match=r"`margins.*Received: margins"):
        plot_similarities(X, Y, margins)
