"""The annotations of the Stanford Cars, which are MATLAB files."""

from pathlib import Path
from typing import Any

from keras_tcm.datasets.image_list import ListedImage
from keras_tcm.datasets.image_set import Images


def read_annotations(file: Path, path_field: str, image_folder: str) -> Images:
    """Reads which images there are, and their classes.

    Args:
        file: A file with a struct array `annotations`.
        path_field: The field with the name of the image; its class is in `class`.
        image_folder: What the name is relative to, empty or with a slash at its end.

    Returns:
        The images in the order of the file; the ids of their classes are integers.

    Raises:
        ValueError: If the file is damaged or has something else in it.
    """
    annotations = _load(file, "annotations").ravel()
    names = annotations.dtype.names or ()
    for field in (path_field, "class"):
        if field not in names:
            raise ValueError(
                f"{file} must give `annotations` the field {field!r}. "
                f"Received: the fields {', '.join(names) or 'of no struct'}"
            )
    source = f"{file}, annotation"
    images = []
    for number, annotation in enumerate(annotations, 1):
        name, class_id = _item(annotation[path_field]), _item(annotation["class"])
        if not isinstance(name, str) or not _is_class_id(class_id):
            raise ValueError(
                f"{source} {number} must have a name in {path_field!r} and an integer "
                f">= 1 in 'class'. Received: {name!r} and {class_id!r}"
            )
        images.append(ListedImage(image_folder + name, int(class_id), source, number))
    return images


def read_class_names(file: Path) -> list[str]:
    """Reads the names of the classes, those of the ids 1, 2, and so on.

    Args:
        file: A file with a cell array `class_names`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or has something else in it.
    """
    return [str(_item(name)) for name in _load(file, "class_names").ravel()]


def _load(file: Path, variable: str) -> Any:
    # Not at the top: who loads another data set need not wait for SciPy.
    from scipy.io import loadmat

    with open(file, "rb") as stream:
        try:
            return loadmat(stream, variable_names=[variable])[variable]
        except Exception as error:  # Damaged files fail in many ways.
            raise ValueError(
                f"{file} must be a MATLAB file with the variable {variable!r}. "
                f"Received: {type(error).__name__}: {error}"
            ) from error


def _item(array: Any) -> Any:
    """Returns the only element, or what there is instead of it."""
    return array.item() if getattr(array, "size", 0) == 1 else array


def _is_class_id(value: Any) -> bool:
    # MATLAB's numbers are floating-point unless it was told otherwise.
    return isinstance(value, int | float) and value >= 1 and value % 1 == 0
