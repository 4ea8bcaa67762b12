"""What is said to the user, and how."""

import contextlib
import pathlib
import re
from collections.abc import Iterator

# Arguments of an evaluation whose options have their names.
_ARGUMENTS = (
    "far_range",
    "distance",
    "beta",
    "epsilon",
    "far_targets",
    "gallery_includes_queries",
    "far",
    "frr",
    "confidence",
    "promise",
    "class_share",
)


class UsageError(Exception):
    """A mistake of the user's, told without a traceback."""


@contextlib.contextmanager
def mistakes(*kinds: type[Exception], of: str = "") -> Iterator[None]:
    """Take errors of some kinds for mistakes of the user's.

    Args:
        kinds: The kinds.
        of: What comes before the message, such as the name of a file.
    """
    try:
        yield
    except kinds as error:
        raise UsageError(f"{of}{in_words(error)}") from None


def in_words(error: object) -> str:
    """Write a message with the options of the command in place of arguments."""
    text = str(error)
    for name, option in (
        ("at_thresholds", "at-threshold"),
        *((name, name.replace("_", "-")) for name in _ARGUMENTS),
    ):
        text = re.sub(rf"`{name}(=True)?`", f"`--{option}`", text)
        text = re.sub(rf"\b{name}=", f"--{option} ", text)
    return text


def legible(name: object) -> str:
    """Write a name so that any terminal, page or figure can show it, on one line.

    Args:
        name: Whatever the system takes for the name of a file: with line breaks, codes
            that steer a terminal, or bytes that are no text.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def title_of(path: pathlib.Path) -> str:
    """Name of a file for a heading: without its folder and type, and not too long."""
    title = legible(path.stem)
    return title if len(title) <= 48 else f"{title[:31]}…{title[-16:]}"
