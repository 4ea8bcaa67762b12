"""Nearest neighbours of some samples, with images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_tcm.class_names import ClassNames, names_of
from keras_tcm.data.augmentation import to_numpy
from keras_tcm.evaluation import (
    DISTANCES,
    STEPS_PER_UNIT,
    accepted_steps,
    check_embeddings,
    from_cosine,
    nearest_samples,
    to_cosine,
)
from keras_tcm.labels import check_labels, encode_labels
from keras_tcm.validation import check_choice, check_integer, check_number
from keras_tcm.visualization.images import (
    check_images,
    pick_images,
    short_name,
    show_image,
)
from keras_tcm.visualization.palette import Palette, foreground, palette
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# Size of an image with its texts, and height of title and legend, in inches.
_CELL = (1.15, 1.6)
_TITLE_HEIGHT = 0.9
_LONGEST_NAME = 14
_LINE_WIDTH = 3.0
_REJECTED_ALPHA = 0.35
# By whether the neighbour is of the query's class: sign and line of the frame.
_FRAMES = {True: ("=", "solid"), False: ("≠", (0, (2, 1)))}
_DECISIONS = {True: "accepted", False: "rejected"}


def plot_neighbors(
    embeddings: Any,
    labels: Any,
    images: Any,
    queries: Sequence[int],
    threshold: float,
    num_neighbors: int = 8,
    distance: Literal["cosine", "euclidean"] = "cosine",
    class_names: ClassNames | None = None,
) -> "matplotlib.figure.Figure":
    """Show the nearest neighbours of some samples, and which the threshold accepts.

    Each query has a row, with its neighbours in order of their distance. A solid frame
    and "=" before the name mark those of the query's class, a dashed frame and "≠"
    the others. Below each stand its distance and whether the threshold accepts it, in
    bold where that is wrong: a neighbour of another class accepted, or one of the same
    class rejected. Images of rejected ones are faded.

    Args:
        embeddings: Vectors of any norm, shape `(n, d)`: array or tensor.
        labels: Labels of any hashable kind, shape `(n,)`.
        images: Array or tensor of shape `(n, height, width, 1 or 3)` with values in
            [0, 255], or paths of `n` image files.
        queries: Indices of the queries, at least one. A query is no neighbour of
            itself.
        threshold: Distance up to which a pair is accepted, such as the `threshold` of
            an operating point.
        num_neighbors: Number of neighbours, at most `n - 1`. Defaults to 8.
        distance: `"cosine"` (`1 - s`) or `"euclidean"` (`sqrt(2 - 2 s)`, between the
            unit vectors). Defaults to `"cosine"`.
        class_names: The name of each label: a mapping or, for integer labels, a
            sequence. Defaults to `None`: the labels.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed, or Pillow is not and images are
            files.
        TypeError: If an argument has the wrong type.
        ValueError: If shapes do not match, an argument is out of range, embeddings are
            NaN or infinite, images are not as described or cannot be read, or a class
            that is shown has no name.

    Example:

    >>> figure = keras_tcm.visualization.plot_neighbors(
    ...     embeddings, labels, x, queries=[0, 8],
    ...     threshold=result.operating_points[2].threshold)
    """
    plt = pyplot()
    vectors = check_embeddings("embeddings", embeddings)
    size = len(vectors)
    labels = check_labels("labels", labels, size)
    classes, (codes,) = encode_labels(labels)
    images = check_images(images, size)
    places = _check_queries(queries, size)
    threshold = check_number("threshold", threshold, 0, 2)
    num_neighbors = check_integer("num_neighbors", num_neighbors, 1)
    if num_neighbors >= size:
        raise ValueError(
            f"`num_neighbors` must be below the number of samples, {size}. "
            f"Received: num_neighbors={num_neighbors}"
        )
    check_choice("distance", distance, DISTANCES)
    nearest, steps = nearest_samples(vectors, places, num_neighbors)
    # As the evaluation does, also where the distance equals the threshold.
    is_accepted = steps <= accepted_steps(to_cosine(threshold, distance))
    distances = from_cosine(steps / STEPS_PER_UNIT, distance)
    is_same = codes[nearest] == codes[places][:, None]
    shown = np.unique(np.concatenate([places, nearest.ravel()])).tolist()
    pixels = pick_images(images, shown)
    names = names_of([classes[codes[sample]] for sample in shown], class_names)
    name_of = {
        sample: short_name(name, _LONGEST_NAME)
        for sample, name in zip(shown, names, strict=True)
    }

    colors = palette()
    width, height = _CELL
    figure, axes = plt.subplots(
        len(places),
        1 + num_neighbors,
        figsize=(width * (1 + num_neighbors), height * len(places) + _TITLE_HEIGHT),
        squeeze=False,
        layout="constrained",
    )
    for row, query in enumerate(places):
        first, *others = axes[row]
        show_image(first, pixels[query])
        _write_texts(first, name_of[query], "query")
        for ax, neighbor, away, same, accepted in zip(
            others,
            nearest[row],
            distances[row],
            is_same[row].tolist(),
            is_accepted[row].tolist(),
            strict=True,
        ):
            show_image(ax, pixels[neighbor], alpha=1 if accepted else _REJECTED_ALPHA)
            sign, style = _FRAMES[same]
            ax.spines[:].set(
                visible=True,
                color=colors.blue if same else colors.orange,
                linestyle=style,
                linewidth=_LINE_WIDTH,
                # Not over the gaps.
                capstyle="butt",
            )
            title = f"{sign} {name_of[neighbor]}"
            note = f"{away:.3f}\n{_DECISIONS[accepted]}"
            _write_texts(ax, title, note, bold=accepted != same)
    figure.suptitle(
        f"Nearest neighbours, accepted up to {distance} distance {threshold:.4f}",
        fontsize="medium",
    )
    _add_legend(figure, colors)
    return figure


def _check_queries(queries: Any, size: int) -> np.ndarray:
    try:
        given = to_numpy(queries).tolist()
        places = [check_integer("queries", place, 0) for place in given]
    except TypeError:
        raise TypeError(
            f"`queries` must be a sequence of integers. Received: queries={queries!r}"
        ) from None
    if not places or max(places) >= size:
        raise ValueError(
            f"`queries` must be indices of samples, below {size}, at least one. "
            f"Received: queries={queries!r}"
        )
    return np.array(places)


def _write_texts(
    ax: "matplotlib.axes.Axes", title: str, note: str, bold: bool = False
) -> None:
    """Write above and below an image."""
    ax.set_title(title, fontsize="small", parse_math=False)
    ax.set_xlabel(note, fontsize="small", fontweight="bold" if bold else "normal")


def _add_legend(figure: "matplotlib.figure.Figure", colors: Palette) -> None:
    from matplotlib.lines import Line2D

    def entry(text: str, color: str, style: Any) -> Line2D:
        return Line2D([], [], color=color, linestyle=style, linewidth=3, label=text)

    entries = [
        entry(f"{sign} {text}", color, style)
        for (sign, style), color, text in zip(
            _FRAMES.values(),
            (colors.blue, colors.orange),
            ("the query's class", "another class"),
            strict=True,
        )
    ]
    entries.append(entry("bold: the decision is wrong", foreground(), "none"))
    legend = figure.legend(
        handles=entries, loc="outside lower center", ncols=3, frameon=False
    )
    legend.get_texts()[-1].set_fontweight("bold")
