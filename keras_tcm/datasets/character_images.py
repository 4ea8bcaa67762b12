"""Images of characters, drawn from outlines and varied.

The images are the same on every machine: integer arithmetic, IEEE `+ - * /` on single
elements, and NumPy's frozen `RandomState` stream.
"""

from collections.abc import Sequence

import numpy as np

from keras_tcm.datasets.glyph_outlines import FACES, Face, bounding_box, fill

# Seeds the stream of every character. Change with anything that changes the images.
VERSION = 1
IMAGE_SIZE = 28
GLYPH_SIZE = 20  # Longer side of the bounding box, in pixels, before scaling.

# How far apart two characters must be: the squared difference of their clean images,
# in pixels of full contrast. Set by eye on sheets of the closest pairs.
MIN_DISTANCE = 5.8
# An upper-case letter and its lower-case twin differ by a little in many places.
MIN_CASE_DISTANCE = 10.0
# (regular, bold) faces in which characters are compared.
COMPARED_FACES = (
    ("DejaVuSans", "DejaVuSans-Bold"),
    ("DejaVuSerif", "DejaVuSerif-Bold"),
    ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    ("STIXGeneral", "STIXGeneralBol"),
)
MAX_ASPECT_RATIO = 1.25

# The distortions of the most variable class.
MAX_HALF_TANGENT = 0.22  # Tangent of half the angle: 25 degrees.
MAX_SCALE = 0.3
MAX_STRETCH = 0.2
MAX_SHEAR = 0.35
MAX_SHIFT = 3 / 28  # Of the image.
MAX_BLUR = 1.0  # Share of the blurred image.
MAX_FADE = 0.6  # Share of the contrast.
MAX_NOISE = 0.65  # Three times the widest noise, in full contrast.


def variability(character: str) -> float:
    """Returns how much the instances of a character vary, 0 (least) to 1 (most).

    Args:
        character: A single character.

    Example:

    >>> from keras_tcm.datasets import character_images
    >>> 0 <= character_images.variability("a") < 1
    True
    """
    return float(_stream(character).random_sample())


def distinct(
    faces: Sequence[Face], candidates: tuple[list[str], list[str]]
) -> tuple[list[str], list[str]]:
    """Keeps the characters that can be told from all that were kept before.

    Two characters are compared as clean images, both with the longer side of the
    bounding box set to the same length and, if their proportions are alike, with
    both sides set. Each is taken regular and bold, because a small letter enlarged
    is a large letter with thicker strokes. The closest of all these counts.

    Args:
        faces: The faces of `FACES`, in that order.
        candidates: Characters for training and for testing.

    Returns:
        The characters kept for training and for testing, in their order.
    """
    train, test = candidates
    characters = train + test
    required = np.full((len(characters), len(characters)), MIN_DISTANCE)
    index = {character: i for i, character in enumerate(characters)}
    for i, character in enumerate(characters):
        j = index.get(character.lower(), i)
        required[i, j] = required[j, i] = MIN_CASE_DISTANCE
    alike = _distances(faces, characters) < required
    kept: list[int] = []
    for i in range(len(characters)):
        if not alike[i, kept].any():
            kept.append(i)
    return (
        [characters[i] for i in kept if i < len(train)],
        [characters[i] for i in kept if i >= len(train)],
    )


def _distances(faces: Sequence[Face], characters: Sequence[str]) -> np.ndarray:
    """Returns how different each two characters look, float64 of shape `(C, C)`."""
    by_name = dict(zip(FACES, faces, strict=True))
    closest = np.full((len(characters), len(characters)), np.inf)
    for names in COMPARED_FACES:
        regular, bold = (_clean_images(by_name[name], characters) for name in names)
        for one, other in ((regular, regular), (regular, bold), (bold, bold)):
            (plain, stretched, aspect), (*others, other_aspect) = one, other
            ratio = aspect[:, None] / other_aspect
            unlike = (ratio > MAX_ASPECT_RATIO) | (ratio * MAX_ASPECT_RATIO < 1)
            distances = np.minimum(
                _squared_distances(plain, others[0]),
                np.where(unlike, np.inf, _squared_distances(stretched, others[1])),
            )
            distances[np.isnan(ratio)] = np.inf
            closest = np.minimum(closest, np.minimum(distances, distances.T))
    return closest


def _squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    # Whole numbers below 2**53: exact in whatever order they are added up.
    squares = (one * one).sum(1)
    other_squares = (other * other).sum(1)
    return (squares[:, None] + other_squares - 2 * (one @ other.T)) / (16 * 16) ** 2


def _clean_images(
    face: Face, characters: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws characters slightly blurred, so that a hair's breadth counts little.

    Returns:
        The characters in their proportions and stretched to a square, float64 of
        shape `(C, 28 * 28)`, whole numbers 0 to 256; and the width over the height
        of each, NaN where the face lacks the character.
    """
    images = np.zeros((2, len(characters), IMAGE_SIZE, IMAGE_SIZE), "int64")
    aspect = np.full(len(characters), np.nan)
    for i, character in enumerate(characters):
        if character in face:
            edges = face.edges(character)
            for stretch in (0, 1):
                images[stretch, i] = _draw(edges, IMAGE_SIZE, GLYPH_SIZE, stretch == 1)
            x_min, y_min, x_max, y_max = bounding_box(edges)
            aspect[i] = (x_max - x_min) / (y_max - y_min)
    plain, stretched = (
        smooth(x).reshape(len(characters), -1).astype("float64") for x in images
    )
    return plain, stretched, aspect


def _draw(edges: np.ndarray, size: int, box: int, stretch: bool = False) -> np.ndarray:
    """Fills a character centred on a square, its bounding box scaled to `box`."""
    x_min, y_min, x_max, y_max = bounding_box(edges)
    width, height = x_max - x_min, y_max - y_min
    if not stretch:
        width = height = max(width, height)
    centred = edges - np.tile([(x_min + x_max) / 2, (y_min + y_max) / 2], 2)
    # Fonts count upwards, images downwards.
    pixels = centred * np.tile([box / width, -box / height], 2) + size / 2
    return fill(pixels, size)


def smooth(images: np.ndarray) -> np.ndarray:
    """Applies the kernel (1, 2, 1), not normalised, along height and width."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]


def _stream(character: str) -> np.random.RandomState:
    # The Generator streams may change between NumPy versions, this one may not.
    return np.random.RandomState([VERSION, ord(character)])


def log_uniform(uniform: float, low: int, high: int) -> int:
    """Maps 0 to 1 to `low` to `high`, in equal ratios, without a logarithm."""
    # (201 / 200) ** n reaches every whole number up to 200, by products alone.
    steps = [float(low)]
    while steps[-1] <= high:
        steps.append(steps[-1] * 1.005)
    return int(steps[int(uniform * (len(steps) - 1))])


def sample(
    faces: Sequence[Face], character: str, counts: tuple[int, int]
) -> np.ndarray:
    """Draws all instances of one character.

    Args:
        faces: Faces to draw from; those without the character are left out.
        character: The character. It alone seeds the random stream.
        counts: Least and greatest number of instances.

    Returns:
        uint8 array of shape `(count, 28, 28, 1)`.
    """
    stream = _stream(character)
    level, position = stream.random_sample(2)
    count = log_uniform(position, *counts)
    strength = 0.25 + 0.75 * level

    faces = [face for face in faces if character in face]
    shuffled = np.argsort(stream.random_sample(len(faces)), kind="stable")
    num_faces = 2 + int(level * (len(faces) - 1))
    # Twice the resolution, smoothed to what the final one can carry.
    masters = np.stack(
        [
            _draw(faces[i].edges(character), 2 * GLYPH_SIZE + 8, 2 * GLYPH_SIZE)
            for i in shuffled[:num_faces]
        ]
    )
    masters = smooth(masters.astype("float64")) / (16 * 16)

    return vary(masters, stream, count, strength, IMAGE_SIZE, 2)


def vary(
    masters: np.ndarray,
    stream: np.random.RandomState,
    count: int,
    strength: float,
    size: int,
    zoom: float,
) -> np.ndarray:
    """Turns, scales, shears, shifts, blurs, fades masters and covers them with noise.

    Args:
        masters: Images to vary, 0 to 1, shape `(n, height, width)`, bright on dark with
            a dark border. Each instance takes one of them at random.
        stream: Where the random numbers come from.
        count: Number of instances.
        strength: Share of the greatest distortions, 0 to 1.
        size: Height and width of an instance, in pixels.
        zoom: Pixels of a master on one of an instance, before scaling.

    Returns:
        uint8 array of shape `(count, size, size, 1)`.
    """
    which, turn, scale, stretch, shear, down, right, blur, fade, noise = (
        stream.random_sample((10, count, 1, 1))
    )

    def spread(uniform: np.ndarray, maximum: float) -> np.ndarray:
        return (2 * uniform - 1) * (strength * maximum)

    # From a pixel of the instance back to a place on the master.
    centred = np.arange(size) + 0.5 - size / 2
    y = centred[:, None] - spread(down, MAX_SHIFT * size)
    x = centred - spread(right, MAX_SHIFT * size)
    tangent = spread(turn, MAX_HALF_TANGENT)
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    y, x = cosine * y - sine * x, sine * y + cosine * x
    scale, stretch = 1 + spread(scale, MAX_SCALE), 1 + spread(stretch, MAX_STRETCH)
    y, x = y / (scale * stretch), x * stretch / scale
    x = x + spread(shear, MAX_SHEAR) * y
    images = look_up(
        masters, (which * len(masters)).astype("int64"), zoom * y, zoom * x
    )

    share = strength * MAX_BLUR * blur
    images = images + share * (smooth(images) / 16 - images)
    contrast = 1 - strength * MAX_FADE * fade
    noise = strength * MAX_NOISE * noise
    first, second, third = stream.random_sample((3, *images.shape))
    images = 0.5 + contrast * (images - 0.5) + noise * (first + second + third - 1.5)
    return np.floor(images.clip(0, 1) * 255 + 0.5).astype("uint8")[..., None]


def look_up(
    masters: np.ndarray, which: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Interpolates bilinearly at offsets from the masters' centre, dark outside."""
    size = masters.shape[1]
    # The border is dark, so what lies beyond it may be clamped to it.
    y = (y + (size - 1) / 2).clip(0, size - 1.5)
    x = (x + (size - 1) / 2).clip(0, size - 1.5)
    row, column = y.astype("int64"), x.astype("int64")
    y, x = y - row, x - column
    flat = masters.ravel()
    corner = (which * size + row) * size + column
    top = (1 - x) * flat[corner] + x * flat[corner + 1]
    bottom = (1 - x) * flat[corner + size] + x * flat[corner + size + 1]
    return (1 - y) * top + y * bottom
