"""Lists of image files, as published data sets come with them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Of a column, and what its values are.
Columns = Mapping[str, type[int] | type[str]]


class ListedImage(NamedTuple):
    """An image that a list names.

    Attributes:
        path: Relative to the folder of the data set, with forward slashes.
        class_id: Its class: a number, a name, or a tuple of them.
        source: What names it, up to the number of the entry.
        number: Of the entry, from 1.
    """

    path: str
    class_id: Any
    source: str
    number: int

    @property
    def place(self) -> str:
        """Where the image is listed, for messages."""
        return f"{self.source} {self.number}"


def source_of(file: Path) -> str:
    """Returns the `source` of what a text file lists."""
    return f"{file}, line"


def read_lines(file: Path) -> list[str]:
    """Reads a text file, without the empty lines at its end.

    Args:
        file: The file.

    Returns:
        Its lines; at least one, which may be empty.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not text.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be a text file. Received: {error}") from error
    return text.rstrip().split("\n")


def read_table(
    file: Path, columns: Columns, header: bool = False
) -> Iterator[tuple[int, list[Any]]]:
    """Reads a text file of columns with spaces between them.

    Args:
        file: The file.
        columns: Name and type of each column.
        header: Whether the first line holds the names of the columns.

    Yields:
        The number of a line, from 1, and its values.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line has another number of columns, or anything else but a
            number where there must be one; the message names the file and the line.
    """
    names = list(columns)
    for number, line in enumerate(read_lines(file), 1):
        place = f"{source_of(file)} {number}"
        values = line.split()
        if header and number == 1:
            if values != names:
                raise ValueError(f"{place} must be {' '.join(names)!r}: {line!r}")
            continue
        if len(values) != len(names):
            raise ValueError(
                f"{place} must have {len(names)} columns, {', '.join(names)}. "
                f"Received: {line!r}"
            )
        yield (
            number,
            [
                parse_integer(value, name, place) if columns[name] is int else value
                for name, value in zip(names, values, strict=True)
            ],
        )


def parse_integer(text: str, name: str, place: str) -> int:
    """Returns the number that a text holds, or raises and says where that is."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{place}: `{name}` must be an integer. Received: {text!r}")
    return int(text)


def check_no_image_twice(images: Iterable[ListedImage]) -> None:
    """Raises `ValueError` if a path is listed twice."""
    first: dict[str, ListedImage] = {}
    for image in images:
        if first.setdefault(image.path, image) is not image:
            raise ValueError(
                f"{image.place} must name an image that was not listed before. "
                f"Received: {image.path!r}, as in {first[image.path].place}"
            )


def check_disjoint(train: Iterable[ListedImage], test: Iterable[ListedImage]) -> None:
    """Raises `ValueError` if train and test share a class."""
    of_class = {image.class_id: image for image in train}
    for image in test:
        if image.class_id in of_class:
            raise ValueError(
                f"{image.place} must name an image of a class that is not in train. "
                f"Received: {image.path!r} of class {image.class_id!r}, as in "
                f"{of_class[image.class_id].place}"
            )


def check_files_exist(folder: Path, images: Sequence[ListedImage]) -> None:
    """Raises `FileNotFoundError` if there is no file of some image.

    One look into each directory, since asking for each of hundreds of thousands of
    files takes minutes on a network drive.
    """
    names: dict[str, frozenset[str]] = {}
    missing = []
    for image in images:
        directory, _, name = image.path.rpartition("/")
        if directory not in names:
            names[directory] = _names_in(folder / directory)
        if name not in names[directory]:
            missing.append(image)
    if missing:
        raise FileNotFoundError(
            f"{missing[0].place} names an image that does not exist: "
            f"{os.path.join(folder, missing[0].path)!r}. "
            f"{len(missing):,} of {len(images):,} images are missing."
        )


def _names_in(directory: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
