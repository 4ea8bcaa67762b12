"""Arrays in files, of which only some rows are read at a time."""

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


class Shards:
    """The rows of several `.npy` files, one after the other.

    The files are opened anew for each read, so that only what is being read counts as
    memory of the process, and a process that is sent the shards opens them itself.

    Args:
        name: Name of the argument that gives the files.
        paths: Names of the files.

    Attributes:
        shape: Shape of the whole.
        dtype: Type of its entries.
        ndim: Number of its dimensions.
        lengths: Rows of each file.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is no whole `.npy` file, or its rows differ in shape or
            type from those of the first file.
    """

    def __init__(self, name: str, paths: Any) -> None:
        self._name = name
        self._paths = tuple(os.path.abspath(os.fspath(path)) for path in paths)
        arrays = (self._open(number) for number in range(len(self._paths)))
        known = [(array.shape, array.dtype) for array in arrays]
        first_shape, self.dtype = known[0]
        for number, (shape, dtype) in enumerate(known):
            if not shape or shape[1:] != first_shape[1:] or dtype != self.dtype:
                raise ValueError(
                    f"`{name}` must be files of rows of one shape and dtype, "
                    f"{first_shape[1:]} and {self.dtype} as in the first. "
                    f"Received: {self._describe(number)} of shape {shape} and dtype "
                    f"{dtype}"
                )
        self.lengths = [shape[0] for shape, _ in known]
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.shape = (int(self._starts[-1]), *first_shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Read some rows."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        # File by file, and forwards in each.
        order = np.argsort(index, kind="stable")
        wanted = index[order]
        bounds = np.searchsorted(wanted, self._starts)
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            some = slice(bounds[number], bounds[number + 1])
            array = self._open(number)
            if len(array) != self.lengths[number]:
                raise ValueError(
                    f"`{self._name}` must not change while it is read. "
                    f"Received: {self._describe(number)}, now with {len(array)} rows "
                    f"instead of {self.lengths[number]}"
                )
            rows[order[some]] = array[wanted[some] - self._starts[number]]
        return rows

    def _open(self, number: int) -> np.ndarray:
        path = self._paths[number]
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"`{self._name}` must be existing .npy files. "
                f"Received: {self._describe(number)}, which does not exist"
            ) from None
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"`{self._name}` must be whole .npy files of numbers. "
                f"Received: {self._describe(number)}, which cannot be read: {error}"
            ) from error
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(
                f"`{self._name}` must be .npy files, not .npz. "
                f"Received: {self._describe(number)}"
            )
        return array

    def _describe(self, number: int) -> str:
        return f"{self._name}[{number}]={self._paths[number]!r}"


def open_shards(name: str, value: Any) -> Any:
    """Return `Shards` for a list or tuple of paths, and anything else as it is."""
    if isinstance(value, list | tuple) and value and all(map(_is_path, value)):
        return Shards(name, value)
    return value


def read_label_shards(name: str, labels: Any, embeddings: Any) -> Any:
    """Read labels that are given as files, one for each file of the embeddings.

    Args:
        name: Name of the argument.
        labels: Paths of `.npy` files, or the labels themselves.
        embeddings: The embeddings; only if they are `Shards` can labels be files.

    Returns:
        The labels in one array.
    """
    is_files = isinstance(labels, list | tuple) and all(
        _is_path(x) and str(x).endswith(".npy") for x in labels
    )
    if not (isinstance(embeddings, Shards) and is_files and labels):
        return labels
    shards = Shards(name, labels)
    if shards.lengths != embeddings.lengths:
        raise ValueError(
            f"`{name}` must have a file for each file of embeddings, with as many "
            f"rows: {_abridged(embeddings.lengths)}. "
            f"Received: files of {_abridged(shards.lengths)} rows"
        )
    return shards[:]


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _abridged(lengths: list[int]) -> str:
    shown = ", ".join(map(str, lengths[:8]))
    return shown if len(lengths) <= 8 else f"{shown}, ... ({len(lengths)} files)"
