"""Described scenes: pictures of two things, and captions that say how they lie.

A class is a scene: two things (each of 2 sizes, 8 colours and 12 shapes) of which one
lies left of, above, inside or in front of the other. An instance is a caption of the
scene and a picture of it. It stands for finding pictures by text, with one network for
captions and one for pictures. Testing has other scenes than training, made of the same
words.

Every caption says all that tells the classes apart, in one of many wordings ("a tiny
red disc to the left of the big star in blue", "one large blue star right of a small red
circle"). The scenes come in families of three that differ in a single respect, such as
which of the things is left.

Classes differ in variability, uniform in 0 to 1. It scales the distortions of the
pictures (from a quarter of their full size up: position, size, turn, colours,
background, contrast, noise) and the number of wordings (from a single one up to all).
They differ in size too, log-uniform: 8 to 40 instances in training, 8 to 32 in testing.

The data are the same on every machine.
"""

import os
from collections.abc import Sequence

import numpy as np

from keras_tcm.datasets import scene_captions, scene_pictures
from keras_tcm.datasets.cache import Arrays, cached_arrays
from keras_tcm.datasets.character_images import log_uniform
from keras_tcm.datasets.scene_classes import VERSION, Scene, choose_scenes

Split = tuple[tuple[np.ndarray, np.ndarray], np.ndarray]

TRAIN_COUNTS = (8, 40)
TEST_COUNTS = (8, 32)
FILE_NAME = f"scenes-v{VERSION}.npz"

LENGTH = scene_captions.LENGTH
"""Words that a caption may have: how many tokens there are of each."""

VOCABULARY = scene_captions.VOCABULARY
"""All words of the captions. The id of a word is its place, counted from 1."""

_IDS = {word: place for place, word in enumerate(VOCABULARY, 1)}


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns the scenes; writes and draws them (some seconds) the first time.

    Args:
        data_dir: Folder to keep them in. Defaults to `keras_tcm` in `$KERAS_HOME`, or
            in `~/.keras` where that is not set.

    Returns:
        `(x_train, y_train), (x_test, y_test)`. Each `x` is `(tokens, images)`, which
        are captions, int32 of shape `(N, 24)`, ids of words with zeros behind them,
        and uint8 pictures of shape `(N, 32, 32, 3)`. Labels are int64 of shape
        `(N,)`, in order of class. Train classes are `0 ... C - 1`, test classes go on
        from `C`.

    Example:

    >>> from keras_tcm.datasets import scenes
    >>> ((tokens, images), y), _ = scenes.load()
    >>> scenes.captions(tokens[:1])
    ['here is the large scarlet star higher than a scarlet triangle that is small']
    >>> tokens.shape, images.shape, y.shape
    ((11390, 24), (11390, 32, 32, 3), (11390,))
    """
    names = ("tokens", "images", "y")
    keys = tuple(f"{name}_{split}" for split in ("train", "test") for name in names)
    arrays = cached_arrays(FILE_NAME, keys, _generate, data_dir)
    tokens, images, y, test_tokens, test_images, y_test = (arrays[key] for key in keys)
    return ((tokens, images), y), ((test_tokens, test_images), y_test)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the description of each label.

    Args:
        data_dir: As in `load`. Not used, the scenes follow from their seed.

    Returns:
        Such as `"small red circle left of big blue star"`, the train classes first.
    """
    train, test = choose_scenes()
    return tuple(map(str, train + test))


def tokenize(texts: Sequence[str]) -> np.ndarray:
    """Turns captions into ids of words.

    Args:
        texts: Captions of words of `VOCABULARY`, up to 24 each. Case, commas and full
            stops do not matter.

    Returns:
        int32 array of shape `(len(texts), 24)`, with the place of each word in
        `VOCABULARY`, counted from 1, and zeros behind the last one.

    Raises:
        ValueError: If a word is not in the vocabulary, or a text has none or too many.
        TypeError: If `texts` is a single text.

    Example:

    >>> from keras_tcm.datasets import scenes
    >>> tokens = scenes.tokenize(["A tiny red disc above one huge blue star."])
    >>> scenes.captions(tokens)
    ['a tiny red disc above one huge blue star']
    """
    if isinstance(texts, str):
        raise TypeError(
            f"`texts` must be a sequence of texts, not one. Received: texts={texts!r}"
        )
    tokens = np.zeros((len(texts), LENGTH), "int32")
    for row, text in zip(tokens, texts, strict=True):
        words = text.lower().replace(",", " ").replace(".", " ").split()
        if not 1 <= len(words) <= LENGTH:
            raise ValueError(
                f"`texts` must have 1 to {LENGTH} words each. "
                f"Received: {text!r}, with {len(words)}"
            )
        for place, word in enumerate(words):
            if word not in _IDS:
                raise ValueError(
                    "`texts` must have no other words than "
                    "`keras_tcm.datasets.scenes.VOCABULARY`. "
                    f"Received: {word!r}, in {text!r}"
                )
            row[place] = _IDS[word]
    return tokens


def captions(tokens: np.ndarray) -> list[str]:
    """Turns ids of words into captions.

    Args:
        tokens: Integers of shape `(N, length)`, as `load` and `tokenize` return them.

    Returns:
        `N` texts.

    Raises:
        ValueError: If `tokens` has another shape, or an id is not that of a word.

    Example:

    >>> from keras_tcm.datasets import scenes
    >>> scenes.captions(scenes.tokenize(["a star", "one big ring"]))
    ['a star', 'one big ring']
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise ValueError(
            "`tokens` must be integers of shape (N, length). "
            f"Received: {tokens.dtype} of shape {tokens.shape}"
        )
    if tokens.size and not 0 <= tokens.min() <= tokens.max() <= len(VOCABULARY):
        raise ValueError(
            f"`tokens` must be in 0 to {len(VOCABULARY)}. "
            f"Received: {tokens.min()} to {tokens.max()}"
        )
    return [
        " ".join(VOCABULARY[token - 1] for token in row if token)
        for row in tokens.tolist()
    ]


def _generate() -> Arrays:
    train, test = choose_scenes()
    arrays: Arrays = {}
    for split, classes, counts, first_label in (
        ("train", train, TRAIN_COUNTS, 0),
        ("test", test, TEST_COUNTS, len(train)),
    ):
        texts, images = zip(*(sample(c, counts) for c in classes), strict=True)
        labels = np.arange(first_label, first_label + len(classes), dtype="int64")
        arrays[f"tokens_{split}"] = np.concatenate([tokenize(t) for t in texts])
        arrays[f"images_{split}"] = np.concatenate(images)
        arrays[f"y_{split}"] = np.repeat(labels, [len(x) for x in images])
    return arrays


def sample(scene: Scene, counts: tuple[int, int]) -> tuple[list[str], np.ndarray]:
    """Writes and draws all instances of one class.

    Args:
        scene: The class. It alone seeds the random stream.
        counts: Least and greatest number of instances.

    Returns:
        The captions, and uint8 pictures of shape `(count, 32, 32, 3)`.
    """
    stream = np.random.RandomState([VERSION, scene.code])
    level, position = stream.random_sample(2)
    count = log_uniform(position, *counts)
    texts = scene_captions.write(scene, stream, count, level)
    return texts, scene_pictures.draw(scene, stream, count, level)
