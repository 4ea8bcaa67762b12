"""The circle shows each class's density where its embeddings are."""

import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import contrast
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import FancyArrowPatch

from keras_tcm.visualization import plot_circle
from keras_tcm.visualization.circle import BANDWIDTH, circular_density

GRID = np.linspace(-np.pi, np.pi, 3601)


def points(degrees, norm=1.0):
    angles = np.radians(degrees)
    return norm * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def outlines(ax):
    """The outer edge of each class's hill, by colour: radii and angles."""
    *hills, _ = ax.lines
    found = {}
    for line in hills:
        x, y = line.get_data()
        found[to_hex(line.get_color())] = np.hypot(x, y), np.arctan2(y, x)
    return found


def arrows(ax):
    """Where the arrows point, in degrees, in the order of the classes."""
    tips = [text.xy for text in ax.texts if getattr(text, "arrow_patch", None)]
    return [float(np.degrees(np.arctan2(y, x)) % 360) for x, y in tips]


def names(ax):
    """Names by the angle at which they stand, in whole degrees."""
    found = {}
    for text in ax.texts:
        if text.get_text():
            x, y = text.get_position()
            found[text.get_text()] = round(float(np.degrees(np.arctan2(y, x)))) % 360
    return found


# ----------------------------------------------------------------------------- density


@pytest.mark.parametrize("bandwidth", [1.0, 3.0, 10.0])
def test_density_integrates_to_one(bandwidth):
    angles = np.random.default_rng(0).uniform(-10, 10, 50)
    density = circular_density(angles, GRID, bandwidth)
    # The first angle is the last one too.
    assert 2 * np.pi * density[:-1].mean() == pytest.approx(1, abs=1e-9)
    assert (density >= 0).all()


def test_density_of_one_angle_is_the_wrapped_normal_distribution():
    """Summed over many turns, by hand."""
    width = np.radians(20)
    turns = 2 * np.pi * np.arange(-5, 6)
    expected = np.exp(-0.5 * ((GRID[:, None] - 3.0 + turns) / width) ** 2).sum(axis=1)
    expected /= width * np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        circular_density(np.array([3.0]), GRID, 20.0), expected, atol=1e-12
    )


@pytest.mark.parametrize("turn", [0.3, np.pi, -2.0, 2 * np.pi])
def test_density_rotates_with_the_data(turn):
    angles = np.random.default_rng(1).normal(2.5, 0.7, 40)
    np.testing.assert_allclose(
        circular_density(angles + turn, GRID + turn),
        circular_density(angles, GRID),
        atol=1e-9,
    )


def test_density_of_two_samples_of_angles_together_is_their_weighted_mean():
    rng = np.random.default_rng(2)
    first, second = rng.uniform(-3, 3, 10), rng.uniform(-3, 3, 30)
    together = circular_density(np.concatenate([first, second]), GRID)
    apart = circular_density(first, GRID) + 3 * circular_density(second, GRID)
    np.testing.assert_allclose(together, apart / 4, atol=1e-12)


# ------------------------------------------------------------------------------ figure


def test_a_hill_stands_where_its_class_is():
    ax = plot_circle(points([90, 90, -45]), ["up", "up", "down"])
    hills = list(outlines(ax).values())
    assert len(hills) == 2
    # In the order of the labels: "down" is the first class.
    for (radii, angles), degrees in zip(hills, (-45, 90), strict=True):
        assert np.degrees(angles[np.argmax(radii)]) == pytest.approx(degrees, abs=0.5)
        assert radii.min() == pytest.approx(1)
        far = np.abs(np.degrees(angles) - degrees) > 6 * BANDWIDTH
        np.testing.assert_allclose(radii[far], 1, atol=1e-6)


def test_heights_have_one_scale_in_every_figure():
    """All embeddings in one place give the highest hill, halves of them half of it."""
    ax = plot_circle(points([0, 0, 0, 0, 0, 120]), [0, 0, 0, 0, 1, 1])
    whole, halves = (radii.max() - 1 for radii, _ in outlines(ax).values())
    assert halves == pytest.approx(whole / 2)
    other = plot_circle(points([77]), [5])
    ((radii, _),) = outlines(other).values()
    assert radii.max() - 1 == pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("degrees", [10.0, 90.0, 200.0])
def test_hills_rotate_with_the_embeddings(degrees):
    data = np.random.default_rng(3).normal(0, 20, 60)
    labels = np.arange(60) % 3
    still = outlines(plot_circle(points(data), labels))
    turned = outlines(plot_circle(points(data + degrees), labels))
    assert still.keys() == turned.keys()
    for color, (radii, angles) in still.items():
        other, other_angles = turned[color]
        # Both start at -180 degrees, in steps of half a degree; the ends are one.
        np.testing.assert_allclose(other_angles[:-1], angles[:-1], atol=1e-9)
        shifted = np.roll(radii[:-1], round(2 * degrees))
        np.testing.assert_allclose(other[:-1], shifted, atol=1e-9)


def test_norms_play_no_part():
    labels = [0, 0, 1, 1]
    degrees = [10, 20, 100, 130]
    scale = np.array([[0.1], [1.0], [50.0], [1e-3]])
    one = outlines(plot_circle(points(degrees), labels))
    other = outlines(plot_circle(points(degrees) * scale, labels))
    for color, (radii, _) in one.items():
        np.testing.assert_allclose(other[color][0], radii, atol=1e-12)


def test_arrows_point_to_the_mean_directions():
    ax = plot_circle(points([10, 30, 350, 340, 180]), list("aabbc"))
    assert arrows(ax) == pytest.approx([20, 345, 180])
    assert names(ax) == {"a": 20, "b": 345, "c": 180}


def test_arrows_point_to_given_directions():
    directions = points([45, 250], norm=3.0)
    ax = plot_circle(
        points([10, 30, 350]), [7, 7, 2], {7: "seven", 2: "two"}, directions=directions
    )
    assert arrows(ax) == pytest.approx([45, 250])
    assert names(ax) == {"two": 45, "seven": 250}


def test_every_class_has_a_color_and_a_name_of_its_own():
    degrees = np.arange(10) * 36.0
    ax = plot_circle(points(np.repeat(degrees, 2)), np.repeat(np.arange(10), 2))
    assert len(outlines(ax)) == 10
    assert names(ax) == {str(label): 36 * label for label in range(10)}
    patches = [text.arrow_patch for text in ax.texts if not text.get_text()]
    assert all(isinstance(patch, FancyArrowPatch) for patch in patches)
    colors = [to_hex(patch.get_edgecolor()) for patch in patches]
    assert colors == list(outlines(ax))


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DICHROMACY = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(rgb):
    """CIE 1976 L*a*b* of linear RGB under D65."""
    to_xyz = np.array(
        [
            [0.4124, 0.3576, 0.1805],
            [0.2126, 0.7152, 0.0722],
            [0.0193, 0.1192, 0.9505],
        ]
    )
    xyz = np.clip(rgb, 0, 1) @ to_xyz.T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("vision", list(DICHROMACY))
def test_colors_differ_for_colour_blind_readers_too(vision):
    """By 15 and more, where a difference of 2.3 is just noticeable."""
    ax = plot_circle(points(np.arange(10) * 36.0), np.arange(10))
    srgb = np.array([to_rgb(color) for color in outlines(ax)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    colors = cielab(linear @ np.transpose(DICHROMACY[vision]))
    distances = np.linalg.norm(colors[:, None] - colors, axis=-1)
    assert distances[np.triu_indices(10, 1)].min() > 15


def test_names_are_shown_as_they_are():
    """A name is not a formula."""
    ax = plot_circle(points([0.0, 90.0]), ["$_{x$", "a_b^"])
    ax.figure.canvas.draw()
    assert set(names(ax)) == {"$_{x$", "a_b^"}


def test_names_do_not_cover_the_hills():
    """Not even a long one, at any angle."""
    degrees = np.arange(12) * 30.0
    ax = plot_circle(points(degrees), [f"class number {i:02}" for i in range(12)])
    ax.figure.canvas.draw()
    to_data = ax.transData.inverted()
    for text in ax.texts:
        if text.get_text():
            box = text.get_window_extent().transformed(to_data)
            nearest = np.clip(0, box.x0, box.x1), np.clip(0, box.y0, box.y1)
            assert np.hypot(*nearest) > 1.7


def test_names_of_classes_in_one_place_do_not_cover_each_other():
    ax = plot_circle(points([60.0, 60.5, 61.0, 60.0]), list("abcd"))
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_given_axes_are_drawn_on():
    _, (left, right) = plt.subplots(1, 2)
    before = plt.get_fignums()
    assert plot_circle(points([0.0, 90.0]), [0, 1], ax=right) is right
    assert plt.get_fignums() == before
    assert not left.lines
    assert right.get_aspect() == 1


def test_new_axes_by_default():
    first = plot_circle(points([0.0]), [0])
    assert first.figure is not plot_circle(points([0.0]), [0]).figure


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors(dtype):
    embeddings = points([0.0, 90.0])
    tensor = keras.ops.convert_to_tensor(embeddings, dtype=dtype)
    labels = keras.ops.convert_to_tensor([0, 1])
    ax = plot_circle(tensor, labels, directions=tensor)
    assert arrows(ax) == pytest.approx([0, 90], abs=0.01)


# ------------------------------------------------------------------------------ errors

GOOD = points([0.0, 90.0, 180.0])
LABELS = [0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((0, 2)), []), r"`embeddings` must have shape \(n > 0, 2\)"),
        ((np.ones((3, 3)), LABELS), r"`embeddings`.*Received: .*\(3, 3\)"),
        ((np.ones(2), LABELS), r"`embeddings`.*Received: .*\(2,\)"),
        ((1.0, LABELS), r"`embeddings`.*Received: .*\(\)"),
        (([[1, 0], [0, 0], [0, 1]], LABELS), r"not zero.*embeddings\[1\]"),
        (([[1, 0], [0, 1], [np.nan, 1]], LABELS), r"finite.*embeddings\[2\]"),
        (([[1, 0], [np.inf, 1], [0, 1]], LABELS), r"finite.*embeddings\[1\]"),
        ((GOOD, [0, 1]), r"`labels`"),
        ((GOOD, LABELS, ["one"]), "`class_names` must .* class.*without 1"),
        ((GOOD, LABELS, None, GOOD), r"`directions` .*\(2, 2\).*\(3, 2\)"),
        ((GOOD, LABELS, None, [[1, 0], [0, 0]]), r"not zero.*directions\[1\]"),
        ((points([0.0, 180.0, 5.0]), list("aab")), r"`directions`.*class a"),
    ],
    ids=[
        "no rows",
        "three columns",
        "one row",
        "a number",
        "zero",
        "nan",
        "infinite",
        "labels",
        "names",
        "directions",
        "zero direction",
        "no mean direction",
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_circle(*arguments)
    assert not plt.get_fignums()


def test_wrong_type():
    with pytest.raises(TypeError, match=r"`embeddings` must hold real .*complex"):
        plot_circle(GOOD * 1j, LABELS)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in "matplotlib", "matplotlib.pyplot":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        plot_circle(GOOD, LABELS)


def test_light_and_dark(style):
    ax = plot_circle(points([0.0, 90.0]), [0, 1])
    background = ax.figure.get_facecolor()
    for mark in (ax.lines[-1], *(text for text in ax.texts if text.get_text())):
        assert contrast(mark.get_color(), background) >= 4.5
