"""Draw figures of the documentation.

    PYTHONPATH=benchmarks python docs/make_figures.py

Those of the page on concepts are of random vectors of a fixed seed, that of the page on
pictures that others drew is of its published results.
"""

import pathlib

import found_pictures
import matplotlib.pyplot as plt
import numpy as np
from scipy import special

import keras_tcm
from keras_tcm.visualization import plot_utility_comparison
from keras_tcm.visualization.palette import COLORS, ON_LIGHT, foreground

IMAGES = pathlib.Path(__file__).parent / "images"


def clusters(spreads, size=60, dim=24, seed=0):
    """Vectors around the centre of each class, as far from it as `spreads` says."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(spreads), dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    y = np.repeat(np.arange(len(spreads)), size)
    noise = rng.normal(size=(len(y), dim)) / np.sqrt(dim)
    return centres[y] + np.asarray(spreads)[y, None] * noise, y


def similarities(x):
    """Cosine similarities of all rows."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def plot_two_classes(path):
    """A tight and a loose class: one threshold does not serve both."""
    x, y = clusters([0.5, 1.05, *np.full(28, 0.8)], seed=1)
    distances = 1 - similarities(x)
    result = keras_tcm.evaluate_embeddings(x, y, verbose=False)
    threshold = result.operating_point(0.01).threshold
    figure, axes = plt.subplots(
        1, 2, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    bins = np.linspace(0, 1.4, 57)
    for label, name in enumerate(("a tight class", "a loose class")):
        ax = axes[label]
        member = y == label
        positive = distances[np.ix_(member, member)][~np.eye(member.sum(), dtype=bool)]
        negative = distances[np.ix_(member, ~member)].ravel()
        for values, color, kind in (
            (positive, ON_LIGHT.blue, "positive pairs"),
            (negative, ON_LIGHT.orange, "negative pairs"),
        ):
            ax.hist(values, bins, density=True, alpha=0.6, color=color, label=kind)
        ax.axvline(
            threshold,
            color=foreground(),
            linestyle=":",
            linewidth=2.5,
            label="one threshold",
        )
        rejected = np.mean(positive > threshold)
        ax.set(
            title=f"{name}: {rejected:.0%} of its positive pairs rejected",
            xlabel="cosine distance",
        )
    axes[0].set_ylabel("density of pairs")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_consistency(path):
    """Utility curves of classes whose spreads differ much, and little."""
    results = {
        name: keras_tcm.evaluate_embeddings(*clusters(spreads), verbose=False)
        for name, spreads in (
            ("inconsistent", np.linspace(0.4, 1.0, 30)),
            ("consistent", np.full(30, 0.8)),
        )
    }
    # These classes have nothing in common but their number.
    figure = plot_utility_comparison(results, show_change=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_detection(path):
    """FRR at the FARs of verification protocols, mean over seeds."""
    found = found_pictures.read(found_pictures.RESULTS)
    figure, axes = plt.subplots(
        1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained"
    )
    arms = ("neither", "shift", "AutoTCM", "AutoTCM + shift")
    for ax, name in zip(axes, found_pictures.DATA_SETS, strict=True):
        for arm, color in zip(arms, COLORS, strict=False):
            rates = [
                [one.tar_1, one.tar_2, one.tar_3, one.tar_4]
                for scores, one in found.items()
                if (scores.arm, scores.model.dataset) == (arm, name)
                and scores.model.is_augmented
            ]
            ax.plot(
                special.ndtri(found_pictures.FARS),
                special.ndtri(1 - np.mean(rates, axis=0)),
                marker="o",
                color=color,
                label=arm,
            )
        ax.set(title=name, xlabel="FAR (%)")
        ax.grid(alpha=0.3)
    for axis, shares in (
        (axes[0].xaxis, found_pictures.FARS),
        (axes[0].yaxis, (0.2, 0.3, 0.5, 0.7, 0.9, 0.98)),
    ):
        axis.set_ticks(special.ndtri(shares), [f"{100 * x:g}" for x in shares])
    axes[0].set_ylabel("FRR (%)")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    plot_detection(IMAGES / "found_pictures_detection.png")
    plot_two_classes(IMAGES / "concepts_threshold.png")
    plot_consistency(IMAGES / "concepts_opis.png")
