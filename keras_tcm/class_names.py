"""Names of classes, to show in the place of their labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The name of each label: a mapping or, for integer labels, a sequence.
ClassNames = Mapping[Any, str] | Sequence[str]


def names_of(labels: Sequence[Any], class_names: ClassNames | None) -> list[str]:
    """Return the name of each of some labels.

    Args:
        labels: Labels of classes, as an evaluation has them.
        class_names: A mapping from labels to names or, for integer labels, a sequence
            (or array) in which a label is the index of its name. Labels that an
            evaluation of a file has as text may be the objects that they once were.
            `None` for the labels themselves.

    Raises:
        TypeError: If `class_names` is anything else, or a name is not a string.
        ValueError: If a label has no name.
    """
    if class_names is None:
        return [str(label) for label in labels]
    if isinstance(class_names, Mapping):
        # What `Evaluation.save` makes of other labels.
        by_text = {repr(label): name for label, name in class_names.items()}
        names: dict[Any, str] = {**by_text, **class_names}
    elif isinstance(class_names, Sequence | np.ndarray) and not isinstance(
        class_names, str | bytes
    ):
        names = dict(enumerate(class_names))
    else:
        raise TypeError(
            "`class_names` must be a mapping from labels to names, or a sequence of "
            f"names for integer labels. Received: class_names={class_names!r}"
        )
    found = []
    for label in labels:
        if label not in names:
            raise ValueError(
                "`class_names` must have a name for each class that is shown. "
                f"Received: class_names without {label!r}"
            )
        if not isinstance(names[label], str):
            raise TypeError(
                "`class_names` must hold strings. "
                f"Received: class_names[{label!r}]={names[label]!r}"
            )
        found.append(str(names[label]))
    return found
