"""A data set of drawn characters: what the sets of that kind have in common."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from keras_tcm.datasets.cache import Arrays, cached_arrays
from keras_tcm.datasets.character_images import distinct, sample
from keras_tcm.datasets.glyph_outlines import Face, load_faces

Split = tuple[np.ndarray, np.ndarray]
Candidates = tuple[list[str], list[str]]


@dataclasses.dataclass(frozen=True)
class CharacterSet:
    """Characters to train on and others to test on, and how many images of each.

    Attributes:
        file_name: Where the drawn images are kept; it should change whenever they do.
        candidates: Lists the characters for training and for testing, given the faces.
            Those that look like an earlier one are left out.
        train_counts: Least and greatest number of images of a train class, between
            which it is log-uniform.
        test_counts: The same of a test class.
    """

    file_name: str
    candidates: Callable[[Sequence[Face]], Candidates]
    train_counts: tuple[int, int]
    test_counts: tuple[int, int]

    def load(
        self, data_dir: str | os.PathLike[str] | None = None
    ) -> tuple[Split, Split]:
        """Returns the images; draws them (up to half a minute) the first time.

        Args:
            data_dir: Folder to keep the drawn images in. Defaults to `keras_tcm` in
                `$KERAS_HOME`, or in `~/.keras` where that is not set.

        Returns:
            `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
            `(N, 28, 28, 1)`, bright on dark, and int64 labels of shape `(N,)`, in
            order of class. Train classes are `0 ... C - 1`, test classes go on from
            `C`.

        Raises:
            ImportError: If matplotlib, whose fonts are drawn, is not installed.
        """
        keys = ("x_train", "y_train", "x_test", "y_test")
        arrays = self._arrays(keys, data_dir)
        x_train, y_train, x_test, y_test = (arrays[key] for key in keys)
        return (x_train, y_train), (x_test, y_test)

    def class_names(
        self, data_dir: str | os.PathLike[str] | None = None
    ) -> tuple[str, ...]:
        """Returns the character of each label.

        Args:
            data_dir: As in `load`.

        Returns:
            One character per label, the train classes first.

        Raises:
            ImportError: If matplotlib, whose fonts are drawn, is not installed.
        """
        characters = self._arrays(("characters",), data_dir)["characters"]
        return tuple(chr(code_point) for code_point in characters)

    def _arrays(
        self, keys: Sequence[str], data_dir: str | os.PathLike[str] | None
    ) -> Arrays:
        return cached_arrays(self.file_name, keys, self.generate, data_dir)

    def generate(self) -> Arrays:
        """Draws everything."""
        faces = load_faces()
        train, test = distinct(faces, self.candidates(faces))
        arrays = {"characters": np.array([ord(c) for c in train + test], "uint32")}
        for split, characters, counts, first_label in (
            ("train", train, self.train_counts, 0),
            ("test", test, self.test_counts, len(train)),
        ):
            images = [sample(faces, character, counts) for character in characters]
            labels = np.arange(first_label, first_label + len(images), dtype="int64")
            arrays[f"x_{split}"] = np.concatenate(images)
            arrays[f"y_{split}"] = np.repeat(labels, [len(x) for x in images])
        return arrays


def characters_of(
    blocks: Iterable[tuple[int, int]], faces: Sequence[Face], min_faces: int
) -> list[str]:
    """Lists the characters of Unicode blocks that enough faces have.

    Args:
        blocks: First and last code point of each.
        faces: The faces to ask.
        min_faces: In how many a character must be.

    Returns:
        The characters, block by block.
    """
    characters = (chr(c) for low, high in blocks for c in range(low, high + 1))
    return [c for c in characters if sum(c in face for face in faces) >= min_faces]
