"""Pictures of scenes: shapes drawn as polygons, turned, scaled, shifted and coloured.

The pictures are the same on every machine: integer arithmetic, IEEE `+ - * /` on
single elements, and NumPy's frozen `RandomState` stream.
"""

import functools

import numpy as np

from keras_tcm.datasets.character_images import look_up, smooth
from keras_tcm.datasets.glyph_outlines import bounding_box, fill
from keras_tcm.datasets.scene_classes import SHAPES, Scene, Thing, some

IMAGE_SIZE = 32
# In pixels, of which the shapes fill about one length.
LENGTHS = {"small": 8.0, "big": 13.0}
# One thing inside another needs room.
INSIDE_SCALE = {"small": 0.85, "big": 1.3}
# How far below its middle a thing has most room, in its lengths.
ROOM_BELOW = {"triangle": 0.13}
MASTER_SIZE = 48
RGB = {
    "red": (0.93, 0.12, 0.12),
    "orange": (1.0, 0.52, 0.05),
    "yellow": (0.98, 0.93, 0.15),
    "green": (0.1, 0.72, 0.2),
    "cyan": (0.2, 0.92, 0.95),
    "blue": (0.15, 0.3, 0.98),
    "purple": (0.66, 0.2, 0.85),
    "white": (0.97, 0.97, 0.97),
}
MARGIN = 0.5  # Between the things and the border.
GAP = 1.5  # Between two things beside each other.
# Distance of the centres, as a share of the one at which two things touch, that lets
# one cover a corner of the other.
OVERLAP = 0.64
RIM = 1.0  # A dark line around the thing that lies on the other.
BACKGROUND = 0.17

# The distortions of the most variable class.
MAX_HALF_TANGENT = 0.1  # Tangent of half the angle: 11 degrees.
MAX_SCALE = 0.06
MAX_GAP = 5.0
MAX_ASLANT = 0.3  # Tangent of the angle between the line of centres and an axis.
MAX_OFF_CENTRE = 0.7
MAX_OVERLAP = 0.05
MAX_SHADE = 0.15
MAX_TINT = 0.05
MAX_DARKENING = 0.25
MAX_HUE = 0.07
MAX_FADE = 0.4  # Share of the contrast.
MAX_NOISE = 0.25  # Three times the widest noise, in full contrast.

Points = list[tuple[float, float]]


def _circle(radius: float, x: float = 0.0, y: float = 0.0) -> Points:
    # Half angles by their tangents: no sine that may differ in its last bit.
    tangents = [step / 6 for step in range(6)]
    quarter = [((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in tangents]
    points = list(quarter)
    for _ in range(3):
        quarter = [(-v, u) for u, v in quarter]
        points += quarter
    return [(x + radius * u, y + radius * v) for u, v in points]


def _mirrored(right: Points) -> Points:
    """The outline of a shape that is the same on both sides, from its right half."""
    return right + [(-x, y) for x, y in reversed(right) if x]


def _star() -> Points:
    outer = [(0.0, -1.0), (0.951057, -0.309017), (0.587785, 0.809017)]
    inner = [(0.587785, -0.809017), (0.951057, 0.309017), (0.0, 1.0)]
    right = []
    for (x, y), (u, v) in zip(outer, inner, strict=True):
        right += [(0.56 * x, 0.56 * y), (0.25 * u, 0.25 * v)]
    return _mirrored(right)


def _crescent() -> Points:
    half = [(x, y) for x, y in _circle(0.55) if x <= 0]
    return half + [(0.25 * x, y) for x, y in half[-2:0:-1]]


# Polygons of each shape, clockwise (a hole is not), y downwards.
_POLYGONS: dict[str, list[Points]] = {
    "circle": [_circle(0.5)],
    "square": [_mirrored([(0.44, -0.44), (0.44, 0.44)])],
    "triangle": [_mirrored([(0.0, -0.5), (0.52, 0.42)])],
    "star": [_star()],
    "ring": [_circle(0.52), _circle(0.3)[::-1]],
    "cross": [
        _mirrored(
            [
                (0.17, -0.5),
                (0.17, -0.17),
                (0.5, -0.17),
                (0.5, 0.17),
                (0.17, 0.17),
                (0.17, 0.5),
            ]
        )
    ],
    "arrow": [
        _mirrored([(0.0, -0.54), (0.46, -0.04), (0.15, -0.04), (0.15, 0.54)]),
    ],
    "heart": [
        _circle(0.27, -0.24, -0.2),
        _circle(0.27, 0.24, -0.2),
        _mirrored([(0.0, -0.2), (0.24, -0.2), (0.45, -0.03), (0.0, 0.5)]),
    ],
    "crescent": [_crescent()],
    "diamond": [_mirrored([(0.0, -0.56), (0.37, 0.0), (0.0, 0.56)])],
    "letter t": [_mirrored([(0.45, -0.5), (0.45, -0.22), (0.15, -0.22), (0.15, 0.5)])],
    "letter l": [
        [
            (-0.35, -0.5),
            (-0.05, -0.5),
            (-0.05, 0.22),
            (0.4, 0.22),
            (0.4, 0.5),
            (-0.35, 0.5),
        ]
    ],
}


@functools.cache
def _edges(shape: str) -> np.ndarray:
    """Edges of a shape around the centre of its bounding box."""
    rings = [np.array(points, "float64") for points in _POLYGONS[shape]]
    edges = np.concatenate([np.hstack([r, np.roll(r, -1, axis=0)]) for r in rings])
    x_min, y_min, x_max, y_max = bounding_box(edges)
    return edges - np.tile([(x_min + x_max) / 2, (y_min + y_max) / 2], 2)


@functools.cache
def _corner(shape: str, down: int, right: int) -> float:
    """Returns where a diagonal leaves a shape: as far along x as along y.

    Args:
        shape: One of `SHAPES`.
        down: 1 for a diagonal that goes down from the centre, -1 for one that goes up.
        right: 1 to the right, -1 to the left.
    """
    x0, y0, x1, y1 = _edges(shape).T
    # How far to the left of the diagonal the ends of each edge are.
    start, end = x0 * down - y0 * right, x1 * down - y1 * right
    crossing = (start < 0) != (end < 0)
    share = start[crossing] / (start - end)[crossing]
    x = x0[crossing] + share * (x1 - x0)[crossing]
    return float((right * x).max())


@functools.cache
def _masters(size: str) -> np.ndarray:
    """All shapes in twice the resolution, smoothed to what the final one can carry.

    Returns:
        Float64 of shape `(12, 48, 48)`, 0 to 1.
    """
    masters = [
        fill(_edges(shape) * (2 * LENGTHS[size]) + MASTER_SIZE / 2, MASTER_SIZE)
        for shape in SHAPES
    ]
    return smooth(np.stack(masters).astype("float64")) / (16 * 16)


class _Varied:
    """A thing in all its instances: lengths in pixels, arrays of shape `(count,)`."""

    def __init__(
        self, thing: Thing, stream: np.random.RandomState, count: int, strength: float
    ) -> None:
        self.thing = thing
        turn, scale, darkening = stream.random_sample((3, count))
        hue = stream.random_sample((count, 3))
        tangent = _spread(turn, strength * MAX_HALF_TANGENT)
        self.cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
        self.sine = 2 * tangent / (1 + tangent * tangent)
        self.scale = 1 + _spread(scale, strength * MAX_SCALE)
        self.colour = (
            np.array(RGB[thing.colour])
            * (1 - strength * MAX_DARKENING * darkening[:, None])
            + _spread(hue, strength * MAX_HUE)
        ).clip(0, 1)

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns how far it goes from its centre, along y and along x."""
        x, y = _edges(self.thing.shape)[:, :2].T[:, :, None]
        length = LENGTHS[self.thing.size] * self.scale
        return (
            np.abs(self.cosine * y + self.sine * x).max(0) * length,
            np.abs(self.cosine * x - self.sine * y).max(0) * length,
        )

    def corner(self, down: int, right: int) -> np.ndarray:
        """Returns where a diagonal leaves it: as far along x as along y."""
        length = LENGTHS[self.thing.size] * self.scale
        return _corner(self.thing.shape, down, right) * length

    def cover(self, y: np.ndarray, x: np.ndarray, rim: float = 0.0) -> np.ndarray:
        """Returns the share of each pixel that it covers.

        Args:
            y: Where its centre is, shape `(count,)`.
            x: The same along the other axis.
            rim: By how many pixels to enlarge it on each side.

        Returns:
            Shape `(count, 32, 32, 1)`.
        """
        places = np.arange(IMAGE_SIZE) + 0.5
        y = (places - y[:, None])[:, :, None]
        x = (places - x[:, None])[:, None, :]
        length = LENGTHS[self.thing.size]
        zoom = 2 / (self.scale * (1 + 2 * rim / length))
        cosine, sine = (zoom * self.cosine), (zoom * self.sine)
        cosine, sine = cosine[:, None, None], sine[:, None, None]
        y, x = cosine * y - sine * x, sine * y + cosine * x
        which = np.full((1, 1, 1), SHAPES.index(self.thing.shape))
        return look_up(_masters(self.thing.size), which, y, x)[..., None]


def _spread(uniform: np.ndarray, maximum: float) -> np.ndarray:
    return (2 * uniform - 1) * maximum


def draw(
    scene: Scene, stream: np.random.RandomState, count: int, level: float
) -> np.ndarray:
    """Draws a scene.

    Args:
        scene: What to draw.
        stream: Where the random numbers come from.
        count: Number of pictures.
        level: How much the pictures vary, 0 (least) to 1 (most).

    Returns:
        uint8 array of shape `(count, 32, 32, 3)`.
    """
    strength = 0.25 + 0.75 * level
    first, second = (
        _Varied(thing, stream, count, strength) for thing in (scene.first, scene.second)
    )
    if scene.relation == "inside":
        for varied in (first, second):
            varied.scale = varied.scale * INSIDE_SCALE[varied.thing.size]
    centres = _places(scene.relation, first, second, stream, level)

    shade, fade, noise = stream.random_sample((3, count, 1, 1, 1))
    tint = stream.random_sample((count, 1, 1, 3))
    background = (
        BACKGROUND
        + _spread(shade, strength * MAX_SHADE)
        + _spread(tint, strength * MAX_TINT)
    ).clip(0, 1)
    pictures = background
    layers = [
        (second.cover(*centres[1]), second.colour[:, None, None]),
        (first.cover(*centres[0]), first.colour[:, None, None]),
    ]
    if scene.relation in ("inside", "in front of"):
        layers.insert(1, (first.cover(*centres[0], rim=RIM), 0.5 * background))
    for cover, colour in layers:
        pictures = pictures + cover * (colour - pictures)

    contrast = 1 - strength * MAX_FADE * fade
    noise = strength * MAX_NOISE * noise
    one, two, three = stream.random_sample((3, *pictures.shape))
    pictures = 0.4 + contrast * (pictures - 0.4) + noise * (one + two + three - 1.5)
    return np.floor(pictures.clip(0, 1) * 255 + 0.5).astype("uint8")


def _places(
    relation: str,
    first: _Varied,
    second: _Varied,
    stream: np.random.RandomState,
    level: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns where the centres of both are, `(y, x)` of each."""
    strength = 0.25 + 0.75 * level
    reaches = first.reach(), second.reach()
    apart = [one + other for one, other in zip(*reaches, strict=True)]
    count = len(apart[0])
    along, across, down, right, direction = stream.random_sample((5, count))

    # From the centre of the first to that of the second.
    steps: list[np.ndarray]
    if relation == "inside":
        maximum = strength * MAX_OFF_CENTRE
        size, shape = second.thing.size, second.thing.shape
        up = ROOM_BELOW.get(shape, 0.0) * LENGTHS[size] * second.scale
        steps = [_spread(along, maximum) - up, _spread(across, maximum)]
    elif relation == "in front of":
        ways = some(((-1, -1), (-1, 1), (1, -1), (1, 1)), stream, level)
        touching = np.stack(
            [first.corner(*way) + second.corner(-way[0], -way[1]) for way in ways]
        )
        which = (direction * len(ways)).astype("int64")
        distance = touching[which, np.arange(count)]
        distance = distance * (OVERLAP + _spread(along, strength * MAX_OVERLAP))
        steps = [distance * sign[which] for sign in np.array(ways).T]
    else:
        axis = 0 if relation == "above" else 1
        room = (IMAGE_SIZE - 2 * MARGIN - GAP - 2 * apart[axis]).clip(0, MAX_GAP)
        distance = apart[axis] + GAP + strength * along * room
        steps = [distance * _spread(across, strength * MAX_ASLANT)] * 2
        steps[axis] = distance

    places = []
    for step, one, other, shift in zip(steps, *reaches, (down, right), strict=True):
        low = np.minimum(-one, step - other)
        high = np.maximum(one, step + other)
        room = IMAGE_SIZE - 2 * MARGIN - (high - low)
        middle = IMAGE_SIZE / 2 - (low + high) / 2
        start = middle + _spread(shift, strength * 0.5) * room.clip(0)
        places.append((start, start + step))
    (y, other_y), (x, other_x) = places
    return [(y, x), (other_y, other_x)]
