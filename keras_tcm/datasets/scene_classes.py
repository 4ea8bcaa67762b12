"""Which scenes there are, and which of them train and test.

A scene is two things and how they lie to each other. Scenes come in families of three
that differ in one respect (the things change places, another relation, another size,
colour or shape of one of them), because among scenes taken at random hardly two would
be alike. A family either trains or tests.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

# Seeds the streams. Change with anything that changes the scenes, words or pictures.
VERSION = 1
NUM_TRAIN_CLASSES = 600
NUM_TEST_CLASSES = 300
FAMILY_SIZE = 3

SIZES = ("small", "big")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "arrow",
    "heart",
    "crescent",
    "diamond",
    "letter t",
    "letter l",
)
# Right of, below, around and behind are these the other way round.
RELATIONS = ("left of", "above", "inside", "in front of")

# Shapes with room for a small thing inside.
_ROOMY = frozenset({"circle", "square", "triangle", "ring", "heart", "diamond"})
# Shapes that cover a part of the other thing, and that are known by what is left.
_SOLID = frozenset({"circle", "square", "triangle", "star", "heart", "diamond"})

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Thing:
    """One of the two things of a scene.

    Attributes:
        size: One of `SIZES`.
        colour: One of `COLOURS`.
        shape: One of `SHAPES`.
    """

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two things and how they lie to each other: a class.

    Attributes:
        first: The thing that is left, above, inside or in front.
        relation: One of `RELATIONS`.
        second: The other thing.
    """

    first: Thing
    relation: str
    second: Thing

    def __str__(self) -> str:
        return f"{self.first} {self.relation} {self.second}"

    @property
    def code(self) -> int:
        """A number of this scene alone."""
        code = RELATIONS.index(self.relation)
        for thing in (self.first, self.second):
            code = code * len(SIZES) + SIZES.index(thing.size)
            code = code * len(COLOURS) + COLOURS.index(thing.colour)
            code = code * len(SHAPES) + SHAPES.index(thing.shape)
        return code

    @property
    def can_be_seen(self) -> bool:
        """Whether a picture shows the scene, and could not show another one."""
        if self.first == self.second:
            return False  # The same the other way round.
        if self.relation in ("left of", "above"):
            return True
        # One is drawn on the other.
        if self.first.colour == self.second.colour or self.second.size == "small":
            return False
        if self.relation == "inside":
            return self.first.size == "small" and self.second.shape in _ROOMY
        return {self.first.shape, self.second.shape} <= _SOLID


def choose_scenes() -> tuple[list[Scene], list[Scene]]:
    """Returns the scenes for training and for testing, all different."""
    # The Generator streams may change between NumPy versions, this one may not.
    stream = np.random.RandomState(VERSION)
    taken: set[Scene] = set()
    scenes: list[Scene] = []
    while len(scenes) < NUM_TRAIN_CLASSES + NUM_TEST_CLASSES:
        founder = _first_new(_scenes(stream), taken)
        scenes.append(founder)
        for _ in range(FAMILY_SIZE - 1):
            scenes.append(_first_new(_variants(founder, stream), taken))
    return scenes[:NUM_TRAIN_CLASSES], scenes[NUM_TRAIN_CLASSES:]


def _first_new(candidates: Iterator[Scene], taken: set[Scene]) -> Scene:
    scene = next(c for c in candidates if c.can_be_seen and c not in taken)
    taken.add(scene)
    return scene


def _scenes(stream: np.random.RandomState) -> Iterator[Scene]:
    """Yields scenes at random, as many of each relation."""
    relation = pick(RELATIONS, stream)
    while True:
        first, second = (
            Thing(pick(SIZES, stream), pick(COLOURS, stream), pick(SHAPES, stream))
            for _ in range(2)
        )
        yield Scene(first, relation, second)


def _variants(scene: Scene, stream: np.random.RandomState) -> Iterator[Scene]:
    """Yields scenes that differ from one in a single respect."""
    values = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
    while True:
        change = pick(("places", "places", "relation", *values), stream)
        if change == "places":
            yield Scene(scene.second, scene.relation, scene.first)
        elif change == "relation":
            yield dataclasses.replace(scene, relation=pick(RELATIONS, stream))
        else:
            which = pick(("first", "second"), stream)
            thing = dataclasses.replace(
                getattr(scene, which), **{change: pick(values[change], stream)}
            )
            yield dataclasses.replace(scene, **{which: thing})


def pick(options: Sequence[_T], stream: np.random.RandomState) -> _T:
    """Returns one of several at random."""
    return options[int(stream.random_sample() * len(options))]


def some(
    options: Sequence[_T], stream: np.random.RandomState, level: float
) -> list[_T]:
    """Returns one of several at random (level 0) up to all of them (level 1)."""
    shuffled = np.argsort(stream.random_sample(len(options)), kind="stable")
    return [options[i] for i in shuffled[: 1 + int(level * len(options))]]
