"""Rows of a `numpy.memmap`, which other processes read from its file."""

import dataclasses
import mmap
import os
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class FileRows:
    """Rows of an array in a file, which is mapped anew for each read.

    What has been read of a file counts as memory of the process while it is mapped.

    Attributes:
        path: Name of the file.
        offset: Byte of the file at which the array starts.
        dtype: Type of the array.
        shape: Its shape.
        strides: Its strides.
    """

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __getitem__(self, index: Any) -> np.ndarray:
        whole = np.memmap(self.path, np.uint8, "r")
        rows: np.ndarray = np.ndarray(
            self.shape, self.dtype, whole, self.offset, self.strides
        )
        return rows[index]


class MappedRows:
    """Rows of a `numpy.memmap`; pickled as the `FileRows` of its file.

    Args:
        rows: The array, or a view of it.
    """

    def __init__(self, rows: np.memmap) -> None:
        self._rows = rows

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._rows[index]

    def __reduce__(self) -> tuple[Any, ...]:
        rows, base = self._rows, self._rows.base
        while isinstance(base, np.ndarray):
            base = base.base
        # What has been written to a map of mode "c" is not in the file.
        is_file = rows.filename is not None and rows.mode != "c"
        if not isinstance(base, mmap.mmap) or not is_file:
            raise ValueError(
                "`client` must be None unless each numpy.memmap has a named file and a "
                f"mode other than 'c'. Received: file {rows.filename!r}, mode "
                f"{rows.mode!r}"
            )
        # A view has the offset of what it is a view of, and maps start at whole pages.
        start = rows.offset - rows.offset % mmap.ALLOCATIONGRANULARITY
        first = np.frombuffer(base, np.uint8).ctypes.data
        offset = start + rows.ctypes.data - first
        path = os.path.abspath(rows.filename)
        return FileRows, (path, offset, rows.dtype, rows.shape, rows.strides)
