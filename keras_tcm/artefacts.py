"""What is kept as JSON, with its format and version beside the fields."""

import json
import os
import pathlib
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from keras_tcm.files import write_text

T = TypeVar("T")


def save(path: str | os.PathLike[str], values: dict[str, Any]) -> None:
    """Write values as JSON: whole, or not at all."""
    write_text(pathlib.Path(path), json.dumps(values, allow_nan=False))


def load(path: str | os.PathLike[str], kind: str, from_dict: Callable[[Any], T]) -> T:
    """Read what `save` wrote.

    Args:
        path: The file.
        kind: Name of the class, for the error.
        from_dict: Makes one of the values.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it does not hold one.
    """
    try:
        return from_dict(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`path` must be a file that `{kind}.save` wrote. "
            f"Received: path={os.fspath(path)!r}, where {error}"
        ) from error


def is_of_version(values: Any, expected: dict[str, Any], version: int) -> bool:
    """Whether values are an artefact of another version than the expected one."""
    header = {**expected, "version": version}
    return isinstance(values, dict) and all(
        values.get(name) == value for name, value in header.items()
    )


def check_fields(
    values: Any,
    kind: str,
    expected: dict[str, Any],
    names: Collection[str],
    otherwise: str,
) -> dict[str, Any]:
    """Return the fields of an artefact, or raise `ValueError` if it is another.

    Args:
        values: What should be a dictionary of format, version and the fields.
        kind: Name of the class, for the error.
        expected: `"format"` and `"version"`.
        names: Names of the fields.
        otherwise: What to do with another version.
    """
    if not isinstance(values, dict) or values.get("format") != expected["format"]:
        raise ValueError(
            f"`values` must be what `{kind}.to_dict` returns, with "
            f"format={expected['format']!r}. Received: {values!r:.200}"
        )
    if values.get("version") != expected["version"]:
        raise ValueError(
            f"`values` must be of version {expected['version']}, which this version of "
            f"keras_tcm reads: {otherwise}, or use the version that wrote it. "
            f"Received: version={values.get('version')!r}"
        )
    if values.keys() != {*expected, *names}:
        raise ValueError(
            f"`values` must have format, version, {', '.join(names)}. "
            f"Received: {list(values)!r:.200}"
        )
    return {name: values[name] for name in names}
