"""What the tests of the figures share."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from keras_tcm import Evaluation
from keras_tcm.evaluation import ErrorRates, OperatingPoint


def evaluation(
    num_classes=20, num_thresholds=11, epsilon=0.1, low=0.2, seed=0, **changes
):
    """Random curves in a range up to 0.7; only what figures show has meaning.

    Without `error_rates` of their own they are known in that range alone.
    """
    utility = np.random.default_rng(seed).uniform(size=(num_classes, num_thresholds))
    thresholds = np.linspace(low, 0.7, num_thresholds)
    # Sensitivity and specificity are alike, and so their mean.
    errors = 1.0 - changes.pop("utility", utility)
    overall = errors.mean(axis=0)
    rates = ErrorRates(thresholds, overall, overall, errors, errors)
    values = {
        "opis": 0.0123,
        "epsilon_opis": 0.0456,
        "opis_per_class": np.full(num_classes, 0.0123),
        "recall": {1: 0.5},
        "map_at_r": 0.4,
        "eer": 0.1,
        "calibration_range": (low, 0.7),
        "thresholds": thresholds,
        "utility": rates.utility(1.0),
        "classes": np.arange(num_classes),
        "class_counts": np.full(num_classes, 5),
        "operating_points": (),
        "num_samples": 5 * num_classes,
        "num_excluded_classes": 0,
        "num_unanswerable": 0,
        "num_positive_pairs": 10 * num_classes,
        "num_negative_pairs": 100,
        "distance": "cosine",
        "beta": 1.0,
        "epsilon": epsilon,
        "error_rates": rates,
        **changes,
    }
    return Evaluation(**values)


def error_rates(thresholds, num_classes=20, seed=1):
    """Random rates that rise and fall as those of pairs do."""
    rng = np.random.default_rng(seed)
    shape = num_classes, len(thresholds)
    far = np.sort(rng.uniform(0, 0.3, shape), axis=1).astype("float32")
    frr = -np.sort(-rng.uniform(0, 0.5, shape), axis=1).astype("float32")
    return ErrorRates(
        thresholds=np.asarray(thresholds),
        far=far.mean(axis=0),
        frr=frr.mean(axis=0),
        per_class_far=far,
        per_class_frr=frr,
    )


def operating_point(far_target, threshold, far=0.01, frr=0.2, num_classes=20):
    per_class = np.linspace(0, 1, num_classes)
    return OperatingPoint(far_target, threshold, far, frr, per_class / 10, per_class)


def curves(ax):
    """The curves drawn, by colour."""
    drawn = {}
    for collection in ax.collections:
        if isinstance(collection, LineCollection) and len(collection.get_segments()):
            (color,) = {to_hex(rgba) for rgba in collection.get_colors()}
            drawn.setdefault(color, []).extend(collection.get_segments())
    return drawn


def lines(ax):
    """The lines of the legend, by label."""
    return {line.get_label(): line for line in ax.lines}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def luminance(color):
    """Relative luminance of WCAG 2."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(color, other):
    """Contrast ratio of WCAG 2: text needs 4.5, graphics need 3."""
    low, high = sorted([luminance(color), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def assert_legible(figure):
    """Texts and lines stand out from the background, which is that of the style."""
    background = figure.get_facecolor()
    assert to_rgb(background) == to_rgb(plt.rcParams["figure.facecolor"])
    for text in figure.findobj(Text):
        if text.get_text():
            assert contrast(text.get_color(), background) >= 4.5, text
    for ax in figure.axes:
        assert to_rgb(ax.get_facecolor()) == to_rgb(background)
        for line in ax.lines:
            assert contrast(line.get_color(), background) >= 3, line
        for color in curves(ax):
            assert contrast(color, background) >= 3
    figure.canvas.draw()
