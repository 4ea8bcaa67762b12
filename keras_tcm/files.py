"""Files that are whole or not there."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write under another name and rename in the end: readers never see half a file.

    Args:
        path: The file; its folder must exist.

    Yields:
        The name to write to, which ends in `.part`.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all.

    Args:
        path: The file; its folder must exist.
        text: What to write.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
