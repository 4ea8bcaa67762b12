"""Icons of user interfaces, as many designers drew them.

A class is what an icon is called, such as `calendar-plus`; an instance is its drawing
in one of twenty collections, most of which draw it both in lines and filled. It stands
for finding the same thing in another make, where only the form tells: logos, signs,
symbols in plans.

Names are made alike: endings that say how an icon is drawn are taken off, and words
that mean the same, in whatever order, are one. A class has drawings in at least five
collections, and 5 to some 40 of them: what every program needs has most. The first
half of the classes in the order of the alphabet trains, so that most of a family, such
as the arrows, is on one side.
"""

import os
from collections import Counter

from keras_tcm.datasets.iconify_set import Classes, IconifySet, Packages, Split

# In this order are the images of a class.
PACKAGES = {
    "tabler": "1.2.41",
    "lucide": "1.2.137",
    "ph": "1.2.2",
    "ri": "1.2.10",
    "bi": "1.2.7",
    "fluent": "1.2.60",
    "carbon": "1.2.29",
    "mdi": "1.2.3",
    "material-symbols": "1.2.98",
    "heroicons": "1.2.3",
    "ion": "1.2.7",
    "octicon": "1.2.36",
    "iconoir": "1.2.11",
    "mingcute": "1.2.8",
    "uil": "1.2.3",
    "akar-icons": "1.2.7",
    "mynaui": "1.2.19",
    "hugeicons": "1.2.35",
    "icon-park-outline": "1.2.4",
    "teenyicons": "1.2.2",
}
# Endings of the drawings that are taken from a collection: in lines, and filled. Where
# there are more (thin, rounded, other sizes), they are names that no other has.
_ENDINGS = {
    "tabler": ("", "-filled"),
    "ph": ("", "-fill"),
    "ri": ("-line", "-fill"),
    "bi": ("", "-fill"),
    "fluent": ("-24-regular", "-24-filled"),
    "carbon": ("", "-filled"),
    "mdi": ("", "-outline"),
    "material-symbols": ("", "-outline"),
    "heroicons": ("", "-solid"),
    "ion": ("", "-outline"),
    "octicon": ("-24",),
    "iconoir": ("", "-solid"),
    "mingcute": ("-line", "-fill"),
    "akar-icons": ("", "-fill"),
    "mynaui": ("", "-solid"),
    "teenyicons": ("-outline", "-solid"),
}
# A word, and the word or words that stand for it.
_SYNONYMS = {
    "account": "user",
    "add": "plus",
    "airplane": "plane",
    "bike": "bicycle",
    "bin": "trash",
    "bulb": "light bulb",
    "cart": "shopping cart",
    "checkbox": "check square",
    "checkmark": "check",
    "close": "x",
    "cog": "gear",
    "cross": "x",
    "ellipsis": "dots",
    "email": "mail",
    "envelope": "mail",
    "exclamation": "alert",
    "flash": "bolt",
    "help": "question circle",
    "house": "home",
    "info": "info circle",
    "information": "info circle",
    "lightbulb": "light bulb",
    "lightning": "bolt",
    "login": "log in",
    "logout": "log out",
    "marker": "pin",
    "mic": "microphone",
    "more": "dots",
    "mute": "off",
    "person": "user",
    "photo": "image",
    "picture": "image",
    "qrcode": "qr code",
    "question": "question circle",
    "reload": "refresh",
    "settings": "gear",
    "slash": "off",
    "smartphone": "mobile",
    "television": "tv",
    "thumbs": "thumb",
    "tick": "check",
    "time": "clock",
    "zap": "bolt",
}
MIN_PACKAGES = 5


def _choose(packages: Packages) -> tuple[Classes, Classes]:
    drawings: dict[frozenset[str], list] = {}
    spellings: dict[frozenset[str], Counter[str]] = {}
    for name, package in packages.items():
        for icon in sorted(package.icons):
            stem = _stem(icon, _ENDINGS.get(name, ("",)))
            if stem:
                words = _words(stem)
                drawings.setdefault(words, []).append((package, icon))
                spellings.setdefault(words, Counter())[stem] += 1
    classes = {
        # The most frequent spelling, and of several the first in the alphabet.
        min(spellings[words], key=lambda stem: (-spellings[words][stem], stem)): icons
        for words, icons in drawings.items()
        if len({package for package, _ in icons}) >= MIN_PACKAGES
    }
    names = sorted(classes)
    half = len(names) // 2
    return (
        {name: classes[name] for name in names[:half]},
        {name: classes[name] for name in names[half:]},
    )


def _stem(icon: str, endings: tuple[str, ...]) -> str:
    """Returns a name without its ending; empty if it has none of them."""
    ending = max(filter(icon.endswith, endings), key=len, default=icon)
    return icon[: len(icon) - len(ending)]


def _words(stem: str) -> frozenset[str]:
    words = (_SYNONYMS.get(word, word) for word in stem.split("-"))
    return frozenset(" ".join(words).split())


_SET = IconifySet("icons", PACKAGES, _choose, MIN_PACKAGES, grey=True)


def load(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Returns the icons; draws them (some seconds) the first time.

    Args:
        data_dir: The folder `node_modules` in which npm installed the collections, or
            the folder that holds it. The images are kept in `keras_tcm` in
            `$KERAS_HOME`, or in `~/.keras` where that is not set.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape
        `(N, 32, 32, 1)`, bright on dark, and int64 labels of shape `(N,)`, in order
        of class, and in each in that of `PACKAGES`. Train classes are `0 ... C - 1`,
        test classes go on from `C`.

    Raises:
        FileNotFoundError: If a package is missing. The message says what installs it.
        ValueError: If `data_dir` is `None`, or a package is damaged.
        ImportError: If resvg-py or Pillow is not installed.
    """
    return _SET.load(data_dir)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the name of each label, such as `"calendar-plus"`.

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
