"""Emoji as their vendors drew them.

A class is an emoji, such as the grinning face; an instance is its drawing in one of
nine collections. It stands for finding the same thing in pictures of another make:
logos, products, signs.

The emoji are those of a single character that at least six collections have under the
same name: neither flags of countries nor variants by gender, skin or hair are among
them. Training sees faces, people, animals, plants and places; testing sees food,
activities, objects and symbols. These are whole groups of Unicode, so that emoji that
differ in a detail only (faces, clocks, the signs of the zodiac) are on one side.
"""

import os
from collections.abc import Sequence

from keras_tcm.datasets.iconify_package import IconifyPackage
from keras_tcm.datasets.iconify_set import Classes, IconifySet, Packages, Split

# In this order are the images of a class. The first says which emoji there are, and
# what their groups are.
PACKAGES = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "openmoji": "1.2.29",
    "emojione": "1.2.3",
    "emojione-v1": "1.2.3",
    "emojione-monotone": "1.2.1",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6",
}
MIN_IMAGES = 6
TRAIN_GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Travel & Places",
)
TEST_GROUPS = ("Food & Drink", "Activities", "Objects", "Symbols", "Flags")


def _choose(packages: Packages) -> tuple[Classes, Classes]:
    index = next(iter(packages.values()))
    # The codes of sequences have hyphens.
    single = {name for code, name in index.characters.items() if "-" not in code}

    def classes_of(groups: Sequence[str]) -> Classes:
        return {
            name: _drawings(packages, name)
            for group in groups
            for name in index.categories.get(group, ())
            if name in single
        }

    return classes_of(TRAIN_GROUPS), classes_of(TEST_GROUPS)


def _drawings(packages: Packages, name: str) -> list[tuple[IconifyPackage, str]]:
    found = ((package, package.find(name)) for package in packages.values())
    return [(package, icon) for package, icon in found if icon is not None]


_SET = IconifySet("emoji", PACKAGES, _choose, MIN_IMAGES, grey=False)


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns the emoji; draws them (some seconds) the first time.

    Args:
        data_dir: The folder `node_modules` in which npm installed the collections, or
            the folder that holds it. The images are kept in `keras_tcm` in
            `$KERAS_HOME`, or in `~/.keras` where that is not set.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
        `(N, 32, 32, 3)`, on white, and int64 labels of shape `(N,)`, in order of
        class, and in each in that of `PACKAGES`. Train classes are `0 ... C - 1`,
        test classes go on from `C`.

    Raises:
        FileNotFoundError: If a package is missing. The message says what installs it.
        ValueError: If `data_dir` is `None`, or a package is damaged.
        ImportError: If resvg-py or Pillow is not installed.
    """
    return _SET.load(data_dir)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the name of each label, such as `"grinning-face"`.

    Args:
        data_dir: As in `load`.

    Returns:
        One name per label, the train classes first.

    Raises:
        FileNotFoundError: If a package is missing.
        ValueError: If `data_dir` is `None`, or a package is damaged.
        ImportError: If resvg-py or Pillow is not installed.
    """
    return _SET.class_names(data_dir)
