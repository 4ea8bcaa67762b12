"""Outlines of the fonts that matplotlib ships, and a scanline fill for them.

Rasterisers differ between versions and machines. Here the outlines are read
exactly, and everything after that is IEEE `+ - * /` on single elements or integer
arithmetic, so that the same character gives the same pixels everywhere.
"""

from pathlib import Path

import numpy as np

FACES = (
    "DejaVuSans",
    "DejaVuSansMono",
    "DejaVuSerif",
    "STIXGeneral",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif-Italic",
    "STIXGeneralItalic",
    "DejaVuSans-Bold",
    "DejaVuSansMono-Bold",
    "DejaVuSerif-Bold",
    "STIXGeneralBol",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralBolIta",
)
CURVE_STEPS = 6
SUBSAMPLES = 4


class Face:
    """The outlines of one TrueType font.

    Args:
        path: The `.ttf` file.
    """

    def __init__(self, path: Path):
        from fontTools.ttLib import TTFont

        font = TTFont(path)
        self._glyphs = font["glyf"]
        self._names = font.getBestCmap()

    def __contains__(self, character: str) -> bool:
        name = self._names.get(ord(character))
        return name is not None and self._glyphs[name].numberOfContours != 0

    def edges(self, character: str) -> np.ndarray:
        """Returns the closed polygons of a character as directed edges.

        Args:
            character: A single character of this face.

        Returns:
            float64 array of shape `(num_edges, 4)`, rows `(x0, y0, x1, y1)` in
            font units, y upwards; no rows for a blank character.
        """
        glyph = self._glyphs[self._names[ord(character)]]
        coordinates, ends, on_curve, *_ = glyph.getCoordinates(self._glyphs)
        points = np.array(coordinates, "float64").reshape(-1, 2)
        on_curve = np.frombuffer(bytes(on_curve), "uint8") & 1
        polygons = []
        start = 0
        for end in ends:
            contour = slice(start, end + 1)
            polygons.append(_flatten(points[contour], on_curve[contour] == 1))
            start = end + 1
        edges = [np.hstack([p, np.roll(p, -1, axis=0)]) for p in polygons]
        return np.concatenate(edges) if edges else np.empty((0, 4))


def load_faces() -> tuple[Face, ...]:
    """Opens the fonts of `FACES` from the installed matplotlib.

    Returns:
        One `Face` per name in `FACES`, in that order.

    Raises:
        ImportError: If matplotlib or fontTools (which it depends on) is missing.
    """
    try:
        import fontTools.ttLib  # noqa: F401
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "The glyphs data set draws the fonts that matplotlib ships. "
            'Install it with `pip install "keras-tcm[viz]"`.'
        ) from error
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(Face(folder / f"{name}.ttf") for name in FACES)


def _flatten(points: np.ndarray, on_curve: np.ndarray) -> np.ndarray:
    """Turns one closed TrueType contour into a polygon.

    A control point that is not on the curve bends the way between its two
    neighbours; between two such points TrueType implies their midpoint.
    """
    following = np.roll(points, -1, axis=0)
    implied = ~on_curve & ~np.roll(on_curve, -1)
    order = np.arange(len(points))
    midpoints = (points[implied] + following[implied]) * 0.5
    points = np.insert(points, order[implied] + 1, midpoints, axis=0)
    on_curve = np.insert(on_curve, order[implied] + 1, True)

    control = ~on_curve
    start = np.roll(points, 1, axis=0)[control]
    middle = points[control]
    end = np.roll(points, -1, axis=0)[control]
    pieces = points[:, None]
    if control.any():
        t = (np.arange(1, CURVE_STEPS) / CURVE_STEPS)[:, None]
        curve = (
            (1 - t) * (1 - t) * start[:, None]
            + 2 * t * (1 - t) * middle[:, None]
            + t * t * end[:, None]
        )
        pieces = np.repeat(pieces, CURVE_STEPS - 1, axis=1)
        pieces[control] = curve
    keep = np.ones(pieces.shape[:2], bool)
    keep[on_curve, 1:] = False
    return pieces[keep]


def bounding_box(edges: np.ndarray) -> tuple[float, float, float, float]:
    """Returns `(x_min, y_min, x_max, y_max)` of an edge array."""
    x, y = edges[:, 0], edges[:, 1]
    return x.min(), y.min(), x.max(), y.max()


def fill(edges: np.ndarray, size: int) -> np.ndarray:
    """Fills polygons by the non-zero winding rule.

    Args:
        edges: float64 array of shape `(num_edges, 4)`, rows `(x0, y0, x1, y1)` in
            pixels, y downwards. Parts outside the image are cut off.
        size: Height and width of the image.

    Returns:
        uint8 array of shape `(size, size)`: how many of the 16 sample points of
        each pixel (a regular 4 x 4 grid) lie inside, 0 to 16.

    Example:

    >>> import numpy as np
    >>> corners = np.array([[1, 1], [1, 3], [3, 3], [3, 1]], "float64")
    >>> square = np.hstack([corners, np.roll(corners, -1, axis=0)])
    >>> fill(square, 4)[1]
    array([ 0, 16, 16,  0], dtype=uint8)
    """
    width = size * SUBSAMPLES
    x0, y0, x1, y1 = (edges * SUBSAMPLES).T
    # Sample row r has its centres at r + 0.5; an edge crosses rows [first, last).
    first = np.ceil(np.minimum(y0, y1) - 0.5).clip(0, width).astype("int64")
    last = np.ceil(np.maximum(y0, y1) - 0.5).clip(0, width).astype("int64")
    rows_per_edge = last - first
    edge = np.repeat(np.arange(len(edges)), rows_per_edge)
    offset = np.cumsum(rows_per_edge) - rows_per_edge
    row = np.arange(len(edge)) - offset[edge] + first[edge]
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope
    # One spare column takes the crossings to the right of the image.
    column = np.ceil(x - 0.5).clip(0, width).astype("int64")
    cell = row * (width + 1) + column
    down = y1[edge] > y0[edge]
    cells = width * (width + 1)
    turns = np.bincount(cell[down], minlength=cells)
    turns -= np.bincount(cell[~down], minlength=cells)
    winding = np.cumsum(turns.reshape(width, width + 1)[:, :width], axis=1)
    inside = (winding != 0).reshape(size, SUBSAMPLES, size, SUBSAMPLES)
    return inside.sum(axis=(1, 3), dtype="uint8")
