"""The classes that fit the common threshold worst, with images."""

from typing import TYPE_CHECKING, Any

from keras_tcm.class_names import ClassNames, names_of
from keras_tcm.evaluation import Evaluation, OperatingPoint
from keras_tcm.labels import check_labels
from keras_tcm.validation import check_integer
from keras_tcm.visualization.images import (
    check_images,
    pick_images,
    samples_of,
    short_name,
    show_image,
)
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_FAR_TARGET = 0.01
# Width of the text beside the images, and height of the title, in images and inches.
_TEXT_WIDTH = 2.0
_TITLE_HEIGHT = 0.7
_LONGEST_NAME = 20


def plot_worst_classes(
    evaluation: Evaluation,
    images: Any,
    labels: Any,
    num_classes: int = 5,
    images_per_class: int = 8,
    class_names: ClassNames | None = None,
) -> "matplotlib.figure.Figure":
    """Show the classes with the largest share of OPIS.

    Each has a row with the first of its images and its share of the sum of
    `opis_per_class`. Where the evaluation has an operating point at a FAR target of 1%,
    the class's own FAR and FRR at that threshold tell in which way it differs from the
    others: its negatives are too near, or its positives too far.

    Args:
        evaluation: Evaluation of embeddings of the images.
        images: Array or tensor of shape `(n, height, width, 1 or 3)` with values in
            [0, 255], or paths of `n` image files.
        labels: Labels of the images, shape `(n,)`. Those of the classes that an
            evaluation of a file has as text may be the objects that they once were.
        num_classes: Number of classes, at most. Defaults to 5.
        images_per_class: Number of images in a row, at most. Defaults to 8.
        class_names: The name of each label: a mapping or, for integer labels, a
            sequence, such as `keras_tcm.datasets.glyphs.class_names()`. Defaults to
            `None`: the labels.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed, or Pillow is not and images are
            files.
        TypeError: If `labels` are no labels, `class_names` no names, or a number is not
            an integer.
        ValueError: If `images` are not as described or cannot be read, their number is
            not that of the labels, one of the classes has no image or no name, or a
            number is below 1.

    Example:

    >>> figure = keras_tcm.visualization.plot_worst_classes(
    ...     result, images=x, labels=labels, num_classes=3)
    """
    plt = pyplot()
    num_classes = check_integer("num_classes", num_classes, 1)
    images_per_class = check_integer("images_per_class", images_per_class, 1)
    images = check_images(images)
    labels = check_labels("labels", labels, len(images))
    worst = evaluation.worst_classes(num_classes)
    classes = evaluation.classes[worst].tolist()
    names = names_of(classes, class_names)
    samples = samples_of(classes, labels, images_per_class)
    pixels = pick_images(images, [sample for row in samples for sample in row])

    num_columns = max(len(row) for row in samples)
    figure, axes = plt.subplots(
        len(samples),
        1 + num_columns,
        figsize=(_TEXT_WIDTH + num_columns, len(samples) + _TITLE_HEIGHT),
        width_ratios=[_TEXT_WIDTH, *[1] * num_columns],
        squeeze=False,
        layout="constrained",
    )
    point = _operating_point(evaluation)
    for (first, *others), index, name, row in zip(
        axes, worst, names, samples, strict=True
    ):
        name = short_name(name, _LONGEST_NAME)
        _write_text(first, name, _figures(evaluation, point, index))
        for ax in others[len(row) :]:
            ax.set_axis_off()
        for ax, sample in zip(others, row, strict=False):
            show_image(ax, pixels[sample])
    title = "Classes with the largest share of OPIS"
    if point is not None:
        title += (
            f"\nFAR and FRR at threshold {point.threshold:.4f}; "
            f"of all pairs: FAR {point.far:.2%}, FRR {point.frr:.1%}"
        )
    figure.suptitle(title, fontsize="medium")
    return figure


def _operating_point(evaluation: Evaluation) -> OperatingPoint | None:
    """The operating point that classes are shown at, if there is one."""
    try:
        point = evaluation.operating_point(_FAR_TARGET)
    except ValueError:
        return None
    return point if point.resolved else None


def _figures(evaluation: Evaluation, point: OperatingPoint | None, index: int) -> str:
    """What there is to say about a class."""
    contribution = evaluation.opis_per_class[index]
    total = evaluation.opis_per_class.sum()
    # An estimate from some of the pairs can be 0 or below.
    text = f"{contribution / total:.1%} of OPIS" if total > 0 else "no share of OPIS"
    if point is not None:
        text += (
            f"\nFAR {point.per_class_far[index]:.2%}"
            f"\nFRR {point.per_class_frr[index]:.1%}"
        )
    return text


def _write_text(ax: "matplotlib.axes.Axes", name: str, figures: str) -> None:
    ax.set_axis_off()
    style: dict[str, Any] = {"transform": ax.transAxes, "parse_math": False}
    ax.text(0, 0.78, name, fontweight="bold", verticalalignment="center", **style)
    ax.text(0, 0.62, figures, fontsize="small", verticalalignment="top", **style)
