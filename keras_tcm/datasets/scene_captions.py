"""Captions of scenes: one scene in many wordings, and none of them fits another."""

import numpy as np

from keras_tcm.datasets.scene_classes import Scene, Thing, some

# More than the longest wording has words.
LENGTH = 24

WORDS = {
    "small": ("small", "little", "tiny"),
    "big": ("big", "large", "huge"),
    "red": ("red", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus"),
    "arrow": ("arrow", "pointer"),
    "heart": ("heart",),
    "crescent": ("crescent", "moon"),
    "diamond": ("diamond", "rhombus"),
    "letter t": ("letter t", "capital t"),
    "letter l": ("letter l", "capital l"),
}
PHRASES = {
    "left of": (
        "{first} left of {second}",
        "{first} to the left of {second}",
        "{first} on the left side of {second}",
        "{second} right of {first}",
        "{second} to the right of {first}",
        "{second} on the right side of {first}",
        "{first} on the left and {second} on the right",
        "{second} on the right and {first} on the left",
    ),
    "above": (
        "{first} above {second}",
        "{first} over {second}",
        "{first} higher than {second}",
        "{second} below {first}",
        "{second} under {first}",
        "{second} lower than {first}",
        "{first} at the top and {second} at the bottom",
        "{second} at the bottom and {first} at the top",
    ),
    "inside": (
        "{first} inside {second}",
        "{first} within {second}",
        "{first} in the middle of {second}",
        "{second} around {first}",
        "{second} surrounding {first}",
        "{second} with {first} inside",
    ),
    "in front of": (
        "{first} in front of {second}",
        "{first} partly covering {second}",
        "{second} behind {first}",
        "{second} partly hidden by {first}",
        "{first} at the front and {second} at the back",
        "{second} at the back and {first} at the front",
    ),
}
OPENINGS = (
    "",
    "there is",
    "here is",
    "a picture of",
    "an image of",
    "this shows",
    "we see",
    "you can see",
)
ARTICLES = ("a", "the", "one", "")
ORDERS = (
    "{article} {size} {colour} {shape}",
    "{article} {size} {shape} in {colour}",
    "{article} {colour} {shape} that is {size}",
)


def write(
    scene: Scene, stream: np.random.RandomState, count: int, level: float
) -> list[str]:
    """Words a scene.

    Args:
        scene: What to describe. Every caption names all of it.
        stream: Where the random numbers come from.
        count: Number of captions.
        level: How many of the wordings occur, 0 (one) to 1 (all).

    Returns:
        `count` captions of at most `LENGTH` words.
    """

    def choices(*groups: tuple[str, ...]) -> list[list[str]]:
        """Of each group, a word or several, chosen anew for every caption."""
        kept = [some(group, stream, level) for group in groups]
        positions = stream.random_sample((len(kept), count))
        return [
            [words[int(position * len(words))] for position in row]
            for words, row in zip(kept, positions, strict=True)
        ]

    def name(thing: Thing) -> list[str]:
        attributes = (WORDS[word] for word in (thing.size, thing.colour, thing.shape))
        columns = choices(ORDERS, ARTICLES, *attributes)
        return [
            order.format(article=article, size=size, colour=colour, shape=shape)
            for order, article, size, colour, shape in zip(*columns, strict=True)
        ]

    texts = zip(
        *choices(OPENINGS, PHRASES[scene.relation]),
        name(scene.first),
        name(scene.second),
        strict=True,
    )
    return [
        _tidy(f"{opening} {phrase.format(first=first, second=second)}")
        for opening, phrase, first, second in texts
    ]


def _tidy(text: str) -> str:
    """Drops spare blanks, and makes it "an orange circle"."""
    words = text.split()
    following = [*words[1:], ""]
    return " ".join(
        "an" if word == "a" and after.startswith(("a", "e", "i", "o", "u")) else word
        for word, after in zip(words, following, strict=True)
    )


def _vocabulary() -> tuple[str, ...]:
    texts = [*OPENINGS, *ARTICLES, "an"]
    for group in (ORDERS, *WORDS.values(), *PHRASES.values()):
        texts.extend(group)
    words = {word for text in texts for word in text.split()}
    return tuple(sorted(word for word in words if word.isalpha()))


# In the order of the ids, the first of which is 1.
VOCABULARY = _vocabulary()
