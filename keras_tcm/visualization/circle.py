"""Two-dimensional embeddings as densities around the unit circle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_tcm.class_names import ClassNames, names_of
from keras_tcm.labels import check_labels, encode_labels
from keras_tcm.visualization.palette import foreground
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes

# Standard deviation of the kernel, in degrees.
BANDWIDTH = 3.0
# Four angles to a bandwidth and more: the outlines look smooth.
_NUM_ANGLES = 720
# Height above the circle of a class whose embeddings all have one direction.
_HEIGHT = 0.75
# What a short name takes up.
_NAME_SIZE = 0.18
# Ten colours that also differ under protan-, deuter- and tritanopia:
# Petroff 2021, "Accessible Color Sequences for Data Visualization", arXiv:2107.02270.
_COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)


def circular_density(
    angles: np.ndarray, at: np.ndarray, bandwidth: float = BANDWIDTH
) -> np.ndarray:
    """Estimate the density of angles with a normal kernel wrapped around the circle.

    Args:
        angles: Angles in radians, shape `(n,)`.
        at: Angles in radians at which to give the density, shape `(k,)`.
        bandwidth: Standard deviation of the kernel in degrees, small beside a half
            turn. Defaults to 3.

    Returns:
        Density per radian, shape `(k,)`; it integrates to 1 over the circle.
    """
    width = np.radians(bandwidth)
    # The shorter way around. The other turns of the wrapped kernel add less than
    # rounding does.
    offsets = (at[:, None] - angles + np.pi) % (2 * np.pi) - np.pi
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    return kernel.mean(axis=1) / (width * np.sqrt(2 * np.pi))


def plot_circle(
    embeddings: Any,
    labels: Any,
    class_names: ClassNames | None = None,
    directions: Any = None,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":
    """Draw the directions of two-dimensional embeddings, class by class.

    Each class is a hill on the outside of the unit circle: the density of the angles
    of its embeddings, estimated with a normal kernel of 3 degrees, wrapped around the
    circle. The height of a hill is proportional to the density, with the same factor
    in every figure, so that panels compare. An arrow from the centre points in the
    direction of each class, in the colour of its hill, to the name of the class. With
    more than ten classes the colours repeat.

    One threshold can serve all classes if the hills are equally wide, and nowhere
    much closer together than elsewhere.

    Args:
        embeddings: Array or tensor `(n, 2)`, of any norm but zero.
        labels: Labels of any hashable kind, shape `(n,)`.
        class_names: The name of each label: a mapping or, for integer labels, a
            sequence. Defaults to `None`: the labels.
        directions: Array or tensor `(num_classes, 2)` of class directions of any
            norm but zero, in the sorted order of the labels, such as the transposed
            `kernel` of a `CosineClassifier`. Defaults to `None`: the means of the
            normalised embeddings.
        ax: Axes to draw on. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If an argument has the wrong shape, is not finite or has a zero
            vector, or if a class has no name, or no mean direction because its
            embeddings cancel.
        TypeError: If `embeddings` or `directions` are not real numbers, `labels` are no
            labels, or `class_names` no names.

    Example:

    >>> angles = np.radians([0.0, 5.0, 90.0, 92.0])
    >>> embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> ax = keras_tcm.visualization.plot_circle(embeddings, ["a", "a", "b", "b"])
    """
    plt = pyplot()
    points = _unit_vectors("embeddings", embeddings)
    classes, (codes,) = encode_labels(check_labels("labels", labels, len(points)))
    names = names_of(classes, class_names)
    if directions is None:
        arrows = _mean_directions(points, codes, names)
    else:
        arrows = _unit_vectors("directions", directions, len(classes))

    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    ax.set_aspect("equal")
    ax.set_axis_off()
    limit = 1 + _HEIGHT + 0.25
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))

    # The first angle again at the end: the outlines close.
    grid = np.linspace(-np.pi, np.pi, _NUM_ANGLES + 1)
    circle = np.stack([np.cos(grid), np.sin(grid)])
    unit = _HEIGHT * np.radians(BANDWIDTH) * np.sqrt(2 * np.pi)
    skyline = np.ones_like(grid)
    for code in range(len(classes)):
        color = _COLORS[code % len(_COLORS)]
        members = points[codes == code]
        density = circular_density(np.arctan2(members[:, 1], members[:, 0]), grid)
        radius = 1 + unit * density
        outline = radius * circle
        ring = np.concatenate([outline, circle[:, ::-1]], axis=1)
        ax.fill(*ring, color=color, alpha=0.75, linewidth=0)
        ax.plot(*outline, color=color, linewidth=1)
        skyline = np.maximum(skyline, radius)
    ax.plot(*circle, color=foreground(), linewidth=0.8)
    taken: list[np.ndarray] = []
    for code, name in enumerate(names):
        _draw_arrow(ax, arrows[code], _COLORS[code % len(_COLORS)])
        # Above all hills around the place of the name, and beside no other name.
        around = circle.T @ arrows[code] > np.cos(np.radians(10))
        position = (skyline[around].max() + 0.08) * arrows[code]
        while any(np.linalg.norm(position - other) < _NAME_SIZE for other in taken):
            position = position + _NAME_SIZE * arrows[code]
        taken.append(position)
        _write_name(ax, position, name)
    return ax


def _draw_arrow(ax: "matplotlib.axes.Axes", direction: np.ndarray, color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 2}
    no_gap = {"shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=tuple(direction), xytext=(0, 0), arrowprops={**style, **no_gap})


def _write_name(ax: "matplotlib.axes.Axes", position: np.ndarray, name: str) -> None:
    # A name grows away from the circle, whatever its length.
    x, y = position / np.linalg.norm(position)
    ax.text(
        position[0],
        position[1],
        name,
        fontweight="bold",
        horizontalalignment=_alignment(x, "right", "left"),
        verticalalignment=_alignment(y, "top", "bottom"),
        parse_math=False,
    )


def _alignment(coordinate: float, negative: str, positive: str) -> str:
    # Within 22.5 degrees of the axis.
    if abs(coordinate) < np.sin(np.pi / 8):
        return "center"
    return positive if coordinate > 0 else negative


def _unit_vectors(name: str, vectors: Any, size: int | None = None) -> np.ndarray:
    """Check vectors of shape `(size, 2)`, and divide them by their norms."""
    if keras.ops.is_tensor(vectors):
        # NumPy has no bfloat16.
        vectors = keras.ops.convert_to_numpy(keras.ops.cast(vectors, "float32"))
    array = np.asarray(vectors)
    rows = len(array) if size is None and array.ndim else size
    if array.shape != (rows, 2) or rows == 0:
        expected = "n > 0" if size is None else size
        raise ValueError(
            f"`{name}` must have shape ({expected}, 2). "
            f"Received: {name}.shape={array.shape}"
        )
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"`{name}` must hold real numbers. Received: {name}.dtype={array.dtype}"
        )
    array = array.astype(np.float64)
    norms = np.linalg.norm(array, axis=1)
    is_direction = np.isfinite(norms) & (norms > 0)
    if not is_direction.all():
        index = int(np.argmin(is_direction))
        raise ValueError(
            f"`{name}` must be finite and not zero. "
            f"Received: {name}[{index}]={array[index]}"
        )
    return array / norms[:, None]


def _mean_directions(
    points: np.ndarray, codes: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    sums = np.stack(
        [np.bincount(codes, weights=points[:, axis]) for axis in range(2)], axis=1
    )
    norms = np.linalg.norm(sums, axis=1)
    # What rounding leaves of vectors that cancel.
    undefined = norms <= 1e-12 * np.bincount(codes)
    if undefined.any():
        raise ValueError(
            "`embeddings` of a class must not cancel, or it has no mean direction; "
            f"give `directions`. Received: a zero mean for class "
            f"{names[int(np.argmax(undefined))]}"
        )
    return sums / norms[:, None]
