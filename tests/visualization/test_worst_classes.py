"""The figure of the worst classes shows their images and what is known of them."""

import json
import math
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import assert_legible, evaluation, operating_point
from PIL import Image

from keras_tcm import Evaluation
from keras_tcm.visualization import plot_worst_classes

# Ten classes of four samples; the image of sample i is of the grey value i.
LABELS = np.tile(np.arange(10), 4)
IMAGES = np.broadcast_to(
    np.arange(40, dtype="uint8")[:, None, None, None], (40, 6, 5, 1)
)
OPIS = np.array([1, 8, 3, 9, 2, 7, 5, 6, 4, 0]) / 100


def result(**changes):
    return evaluation(10, **{"opis_per_class": OPIS, **changes})


def rows(figure):
    """The texts and the images of each row, from left to right."""
    by_height = {}
    for ax in figure.axes:
        place = ax.get_subplotspec().rowspan.start
        row = by_height.setdefault(place, ([], []))
        row[0].extend(text.get_text() for text in ax.texts)
        row[1].extend(np.asarray(image.get_array()) for image in ax.images)
    return [by_height[place] for place in sorted(by_height)]


def values(images):
    """Grey values of plain images."""
    assert all((image == image[0, 0, 0]).all() for image in images)
    return [int(image[0, 0, 0]) for image in images]


def test_rows_are_the_classes_in_order_of_their_share():
    found = rows(plot_worst_classes(result(), IMAGES, LABELS))
    assert [texts[0] for texts, _ in found] == ["3", "1", "5", "7", "6"]
    # OPIS of the classes adds up to 0.45.
    assert found[0][0][1] == "20.0% of OPIS"
    assert found[1][0][1] == "17.8% of OPIS"
    for (name, _), images in found:
        assert values(images) == [int(name) + 10 * i for i in range(4)]
        assert images[0].shape == (6, 5, 3)


@pytest.mark.parametrize(("classes", "images"), [(1, 1), (2, 3), (10, 4), (99, 99)])
def test_numbers_are_at_most_those_asked_for(classes, images):
    figure = plot_worst_classes(result(), IMAGES, LABELS, classes, images)
    found = rows(figure)
    assert len(found) == min(classes, 10)
    assert {len(shown) for _, shown in found} == {min(images, 4)}


def test_classes_with_fewer_images_have_shorter_rows():
    labels = LABELS.copy()
    labels[[13, 23, 33]] = 1
    found = rows(plot_worst_classes(result(), IMAGES, labels, num_classes=2))
    assert [values(images) for _, images in found] == [[3], [1, 11, 13, 21, 23, 31, 33]]


def test_rates_at_a_far_of_one_percent():
    points = (
        operating_point(0.001, 0.1, num_classes=10),
        operating_point(0.01, 0.2345, far=0.00987, frr=0.321, num_classes=10),
    )
    figure = plot_worst_classes(
        result(operating_points=points), IMAGES, LABELS, num_classes=1
    )
    ((texts, _),) = rows(figure)
    # Class 3 of ten, whose rates go from 0 to 0.1 and to 1.
    assert texts == ["3", "20.0% of OPIS\nFAR 3.33%\nFRR 33.3%"]
    title = figure.get_suptitle()
    assert "threshold 0.2345" in title
    assert "FAR 0.99%" in title
    assert "FRR 32.1%" in title


@pytest.mark.parametrize(
    "points",
    [(), (operating_point(0.1, 0.3),), (operating_point(0.01, math.nan),)],
    ids=["none", "another target", "unresolved"],
)
def test_without_rates_at_a_far_of_one_percent(points):
    figure = plot_worst_classes(result(operating_points=points), IMAGES, LABELS)
    assert all("FAR" not in "".join(texts) for texts, _ in rows(figure))
    assert "FAR" not in figure.get_suptitle()


def test_an_estimate_of_zero_has_no_shares():
    """The estimate from some of the pairs can be negative."""
    figure = plot_worst_classes(result(opis_per_class=OPIS - 0.05), IMAGES, LABELS)
    assert rows(figure)[0][0][1] == "no share of OPIS"


# ------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    "make",
    [
        lambda i: f"$_{{{i}",
        lambda i: (i, "$x"),
        lambda i: frozenset([i]),
        lambda i: f"a very long name, the last of them all: {i}",
    ],
    ids=["strings", "tuples", "sets", "long"],
)
def test_labels_of_any_kind(make):
    classes = np.empty(10, object)
    classes[:] = [make(i) for i in range(10)]
    labels = [make(int(i)) for i in LABELS]
    figure = plot_worst_classes(result(classes=classes), IMAGES, labels)
    found = rows(figure)
    assert [values(images)[0] for _, images in found] == [3, 1, 5, 7, 6]
    name, text = found[0][0][0], str(make(3))
    assert name == text if len(text) <= 20 else name == text[:19] + "…"


def test_labels_of_an_evaluation_from_a_file():
    """It has texts in the place of labels that JSON does not know."""
    classes = np.empty(10, object)
    classes[:] = [(i, "a") for i in range(10)]
    saved = json.dumps(result(classes=classes).to_dict())
    loaded = Evaluation.from_dict(json.loads(saved))
    figure = plot_worst_classes(loaded, IMAGES, [(int(i), "a") for i in LABELS])
    assert [values(images)[0] for _, images in rows(figure)] == [3, 1, 5, 7, 6]


@pytest.mark.parametrize(
    "class_names",
    [
        tuple(f"class ${i}" for i in range(12)),
        np.array([f"class ${i}" for i in range(12)]),
        {i: f"class ${i}" for i in (1, 3, 5, 6, 7)},
    ],
    ids=["sequence", "array", "mapping"],
)
def test_class_names(class_names):
    figure = plot_worst_classes(result(), IMAGES, LABELS, class_names=class_names)
    names = [texts[0] for texts, _ in rows(figure)]
    assert names == [f"class ${i}" for i in (3, 1, 5, 7, 6)]


# ------------------------------------------------------------------------------ images


def test_colour_images_tensors_and_floats():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 6, 5, 3))
    expected = rows(plot_worst_classes(result(), images, LABELS))[0][1]
    for index, image in zip((3, 13, 23, 33), expected, strict=True):
        np.testing.assert_array_equal(image, images[index])
    for other in (
        images.astype("float32") + 0.4,
        keras.ops.convert_to_tensor(images, dtype="int32"),
        list(images),
    ):
        found = rows(plot_worst_classes(result(), other, LABELS))[0][1]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_paths_of_files(tmp_path, kind):
    """Grey or not, and scaled down without distortion."""
    paths = []
    for i in range(40):
        path = tmp_path / f"{i}.png"
        mode, size = (("L", (8, 4)), ("RGB", (800, 400)))[i % 2]
        Image.new(mode, size, i if mode == "L" else (i, i, i)).save(path)
        paths.append(kind(path))
    found = rows(plot_worst_classes(result(), paths, LABELS, num_classes=5))
    assert [values(images)[0] for _, images in found] == [3, 1, 5, 7, 6]
    assert found[0][1][0].shape == (80, 160, 3)
    assert found[4][1][0].shape == (4, 8, 3)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_files_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`images` .*Received: .*broken\.png"):
        plot_worst_classes(result(), [str(path)] * 40, LABELS)
    assert not plt.get_fignums()


def test_file_that_is_cut_short(tmp_path):
    """Its header is whole: it fails only when its pixels are wanted."""
    path = tmp_path / "half.jpg"
    noise = np.random.default_rng(0).integers(256, size=(300, 300, 3), dtype="uint8")
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"`images` .*Received: .*half\.jpg"):
        plot_worst_classes(result(), [str(path)] * 40, LABELS)
    assert not plt.get_fignums()


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[..., 0], r"`images` .*\(n, height, width, 1 or 3\).*\(40, 6, 5\)"),
        (np.zeros((40, 6, 5, 4)), r"`images` .*\(40, 6, 5, 4\)"),
        (np.arange(40), "`images` .*int64"),
        ([], "`images` must have shape"),
        ([np.zeros((2, 2, 1)), np.zeros((3, 3, 1))], "`images` must have shape"),
        (IMAGES.astype(str), "`images` .*paths"),
        (IMAGES / 255, r"`images` .*\[0, 255\].*float64 values from .* to 0\.1"),
        (IMAGES.astype(int) * 10, r"`images` .*\[0, 255\].*to 370"),
        (IMAGES.astype(int) - 100, r"`images` .*\[0, 255\].*from -"),
        (np.full((40, 6, 5, 1), np.nan), r"`images` .*\[0, 255\].*nan"),
        (IMAGES[:39], "`labels` .*39.*Received: 40"),
    ],
)
def test_wrong_images(images, message):
    with pytest.raises(ValueError, match=message):
        plot_worst_classes(result(), images, LABELS)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 0}, ValueError, "`num_classes`"),
        ({"images_per_class": 0}, ValueError, "`images_per_class`"),
        ({"num_classes": 2.0}, TypeError, "`num_classes`"),
        ({"class_names": ["a", "b"]}, ValueError, "`class_names` .*without 3"),
        ({"class_names": {3: "a"}}, ValueError, "`class_names` .*without 1"),
        ({"class_names": "abcdefghij"}, TypeError, "`class_names` .*'abcdefghij'"),
        ({"class_names": 3}, TypeError, "`class_names` .*Received: class_names=3"),
        ({"class_names": range(10)}, TypeError, r"`class_names` .*names\[3\]=3"),
        ({"labels": LABELS + 4}, ValueError, "`labels` .*without 3"),
        ({"labels": LABELS.astype(str)}, ValueError, "`labels` .*without 3"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        plot_worst_classes(result(), IMAGES, **{"labels": LABELS, **options})
    assert not plt.get_fignums()


def test_thousands_of_classes():
    classes = 5000
    opis = np.random.default_rng(0).uniform(size=classes)
    many = evaluation(classes, opis_per_class=opis)
    labels = np.repeat(np.arange(classes), 2)
    images = np.zeros((2 * classes, 4, 4, 1), "uint8")
    found = rows(plot_worst_classes(many, images, labels))
    order = sorted(range(classes), key=lambda i: -opis[i])
    assert [texts[0] for texts, _ in found] == [str(i) for i in order[:5]]


def test_light_and_dark(style):
    points = (operating_point(0.01, 0.2, num_classes=10),)
    assert_legible(plot_worst_classes(result(operating_points=points), IMAGES, LABELS))
