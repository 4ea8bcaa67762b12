"""Embeddings of any source, checked, sorted by class and scaled to unit length."""

import dataclasses
import functools
import mmap
import os
from typing import Any

import keras
import numpy as np

from keras_tcm.validation import UndefinedError

# Rows that are read, checked and normalised at a time.
CHUNK_ROWS = 16384
_CACHED_TENSORS = 9


@dataclasses.dataclass(frozen=True)
class FileRows:
    """Rows of an array that starts at a byte of a file, mapped anew for each read.

    What has been read of a file counts as memory of the process while it is mapped.
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
    """Rows of a `numpy.memmap` or a view of it; pickled as `FileRows`."""

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
        tower: Which of two stacked embeddings to take of each row, 0 or 1. Defaults to
            `None`: the rows as they are.

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

    def __init__(self, name: str, paths: Any, tower: int | None = None) -> None:
        self._name = name
        self._paths = tuple(os.path.abspath(os.fspath(path)) for path in paths)
        self._tower = tower
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

    def of_tower(self, tower: int) -> "Shards":
        """One of the two embeddings of each row."""
        return Shards(self._name, self._paths, tower)

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
        return array if self._tower is None else array[:, self._tower]

    def _describe(self, number: int) -> str:
        return f"{self._name}[{number}]={self._paths[number]!r}"


def open_shards(name: str, value: Any) -> Any:
    """Return `Shards` for a list or tuple of paths, and anything else as it is."""
    if isinstance(value, list | tuple) and value and all(map(_is_path, value)):
        return Shards(name, value)
    return value


def read_label_shards(name: str, labels: Any, embeddings: Any) -> Any:
    """Read labels that are given as files, one for each file of the embeddings.

    Anything else is returned as it is; only with `Shards` can labels be files.
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


class UnitVectors:
    """Float32 vectors of unit length, or zero, whose parts can go to other processes.

    Args:
        source: The vectors in memory; or what takes an array of row numbers and returns
            rows of any length, which are read and normalised whenever they are needed.
        order: The row of each vector, shape `(n,)`; `None` if they are in memory.
        num_cached: Backend tensors that are kept, the latest.

    Attributes:
        num_cached: See above.
    """

    def __init__(
        self,
        source: Any,
        order: np.ndarray | None = None,
        num_cached: int = _CACHED_TENSORS,
    ) -> None:
        self._source, self._order = source, order
        self.num_cached = num_cached
        self._flipped: UnitVectors | None = None

        # No method of this object, which would then outlive its last use.
        @functools.lru_cache(num_cached)
        def tensor(start: int, size: int) -> Any:
            return to_tensor(
                _unit_rows(source, order, slice(start, start + size)), size
            )

        self._tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return UnitVectors, (self._source, self._order, self.num_cached)

    def __len__(self) -> int:
        return len(self._source if self._order is None else self._order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return _unit_rows(self._source, self._order, index)

    @property
    def flipped(self) -> "UnitVectors":
        """The same samples as the other end of a pair: these, but for scored rows."""
        if not hasattr(self._source, "flipped"):
            return self
        if self._flipped is None:
            self._flipped = UnitVectors(
                self._source.flipped, self._order, self.num_cached
            )
        return self._flipped

    @property
    def embeddings(self) -> "UnitVectors":
        """The unit vectors of the embeddings, where these are made of them."""
        if not hasattr(self._source, "embeddings"):
            return self
        rows = self._source.numbers[self._order]
        return UnitVectors(self._source.embeddings, rows, self.num_cached)

    def part(self, some: range) -> "UnitVectors":
        """Consecutive vectors alone: another process is sent no more."""
        return self.at(slice(some.start, some.stop))

    def at(self, index: slice | np.ndarray) -> "UnitVectors":
        """Some vectors alone, to be read when they are needed."""
        if self._order is None:
            return UnitVectors(self._source[index])
        rows = self._order[index]
        if hasattr(self._source, "some"):
            return UnitVectors(self._source.some(rows), np.arange(len(rows)))
        return UnitVectors(self._source, rows)

    def tensor(self, start: int, size: int) -> Any:
        """Vectors from `start` on as a backend tensor of `size` rows.

        Rows past the last vector are zero: JAX compiles the product anew for every
        shape.
        """
        return self._tensor(start, size)


def _unit_rows(
    source: Any, order: np.ndarray | None, index: slice | np.ndarray
) -> np.ndarray:
    return source[index] if order is None else normalize(source[order[index]])


def to_tensor(rows: np.ndarray, size: int) -> Any:
    """Make a backend tensor of so many rows, for JAX compiles anew for each shape.

    Args:
        rows: Array of shape `(n, d)`.
        size: At least `n`.

    Returns:
        Tensor of shape `(size, d)`, whose rows from `n` on are zero.

    Example:

    >>> tuple(keras_tcm.evaluation.to_tensor(np.ones((3, 2)), 4).shape)
    (4, 2)
    """
    if len(rows) < size:
        rows = np.pad(rows, ((0, size - len(rows)), (0, 0)))
    return keras.ops.convert_to_tensor(rows)


def similarities(rows: Any, columns: Any) -> np.ndarray:
    """Inner products of all rows of two backend tensors, on the host.

    Args:
        rows: Tensor of shape `(n, d)`.
        columns: Tensor of shape `(m, d)`.

    Returns:
        An array of shape `(n, m)`, which may be read-only: without the copy that
        `keras.ops.convert_to_numpy` may make.

    Example:

    >>> x = keras_tcm.evaluation.to_tensor(np.eye(2, dtype="float32"), 2)
    >>> keras_tcm.evaluation.similarities(x, x).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return to_host(products(rows, columns))


def products(rows: Any, columns: Any) -> Any:
    """Inner products of all rows of two backend tensors, where they are."""
    return keras.ops.matmul(rows, keras.ops.transpose(columns))


def to_host(tensor: Any) -> np.ndarray:
    """What a tensor holds, as an array that may be read-only."""
    if keras.backend.backend() == "torch":
        return tensor.detach().cpu().numpy()
    return np.asarray(tensor)


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Embeddings sorted by class and scaled to unit length.

    Attributes:
        vectors: The unit vectors in sorted order.
        codes: Class index of each sample in sorted order, shape `(n,)`.
        starts: First sample of each class, and `n`: shape `(num_classes + 1,)`.
        order: Place of each sample before it was sorted, shape `(n,)`.
    """

    vectors: UnitVectors
    codes: np.ndarray
    starts: np.ndarray
    order: np.ndarray

    @property
    def size(self) -> int:
        """Number of samples, `n`."""
        return len(self.codes)

    def some(self, places: np.ndarray) -> "Samples":
        """The samples at increasing places alone, of the same classes."""
        return sort_samples(
            self.vectors[places], self.codes[places], len(self.starts) - 1
        )

    @property
    def flipped(self) -> "Samples":
        """The same samples as the other end of a pair."""
        vectors = self.vectors.flipped
        if vectors is self.vectors:
            return self
        return dataclasses.replace(self, vectors=vectors)

    def of_classes(self, is_wanted: np.ndarray) -> "Samples":
        """The samples of some classes, which keep their numbers.

        Args:
            is_wanted: Whether each class is one of these, shape `(num_classes,)`.
        """
        places = np.flatnonzero(is_wanted[self.codes])
        codes = self.codes[places]
        starts = np.searchsorted(codes, np.arange(len(self.starts)))
        return Samples(self.vectors.at(places), codes, starts, self.order[places])


def sort_samples(embeddings: Any, codes: np.ndarray, num_classes: int) -> Samples:
    """Sort embeddings by class.

    An array is normalised once. What is not in memory as it is needed is read and
    normalised in chunks each time: a `numpy.memmap`, or anything else with rows.
    """
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    if isinstance(embeddings, np.memmap):
        vectors = UnitVectors(MappedRows(embeddings), order)
    elif isinstance(embeddings, np.ndarray):
        vectors = _hold(embeddings, order)
    else:
        vectors = UnitVectors(embeddings, order)
    starts = np.searchsorted(codes, np.arange(num_classes + 1))
    return Samples(vectors, codes, starts, order)


def unsorted_samples(embeddings: Any) -> Samples:
    """Samples in the order in which they come, of one class."""
    return sort_samples(embeddings, np.zeros(len(embeddings), np.int64), 1)


def check_embeddings(name: str, embeddings: Any) -> np.ndarray | Shards:
    """Return embeddings as finite real numbers of shape `(n, d)`.

    Args:
        name: Name of the argument.
        embeddings: Array, backend tensor, nested sequence, `numpy.memmap`, or list of
            paths of `.npy` files.

    Returns:
        The array; a `numpy.memmap` is returned as it is, and paths as `Shards`.
    """
    embeddings = open_rows(name, embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"`{name}` must have shape (samples, dimension), both at least 1. "
            f"Received: {name}.shape={embeddings.shape}"
        )
    # NumPy calls bfloat16 (from ml_dtypes) a void type.
    if embeddings.dtype.kind not in "fiu" and embeddings.dtype.name != "bfloat16":
        raise TypeError(
            f"`{name}` must hold real numbers. "
            f"Received: {name}.dtype={embeddings.dtype}"
        )
    bad_rows = []
    for start in range(0, len(embeddings), CHUNK_ROWS):
        chunk = embeddings[start : start + CHUNK_ROWS]
        # One pass: the sum is finite unless an entry is not, or it overflows.
        if not np.isfinite(np.sum(chunk, dtype=np.float64)):
            chunk = np.asarray(chunk, dtype=np.float64)
            bad_rows.append(np.flatnonzero(~np.isfinite(chunk).all(axis=1)) + start)
    bad = np.concatenate(bad_rows) if bad_rows else np.zeros(0, np.int64)
    if len(bad):
        raise UndefinedError(
            f"`{name}` must be finite. Received: {len(bad)} of {len(embeddings)} rows "
            f"with NaN or infinite entries, the first at index {bad[0]}"
        )
    return embeddings


def open_rows(name: str, embeddings: Any) -> np.ndarray | Shards:
    """Return embeddings as an array, or as `Shards`; of any shape and type yet."""
    embeddings = open_shards(name, embeddings)
    if isinstance(embeddings, np.ndarray | Shards):
        return embeddings
    if keras.ops.is_tensor(embeddings):
        if keras.backend.standardize_dtype(embeddings.dtype) == "bfloat16":
            embeddings = keras.ops.cast(embeddings, "float32")
        embeddings = keras.ops.convert_to_numpy(embeddings)
    return np.asarray(embeddings)


def split_towers(
    name: str, embeddings: np.ndarray | Shards
) -> tuple[np.ndarray | Shards, np.ndarray | Shards]:
    """Split the stacked embeddings of two towers, the queries and the gallery items.

    Args:
        name: Name of the argument.
        embeddings: What `open_rows` returned, with three dimensions.

    Raises:
        ValueError: Unless there are two in each row.
    """
    if embeddings.shape[1] != 2:
        raise ValueError(
            f"`{name}` must have shape (samples, dimension), or (samples, 2, "
            f"dimension): of each sample a query and a gallery item. "
            f"Received: {name}.shape={embeddings.shape}"
        )
    if isinstance(embeddings, Shards):
        return embeddings.of_tower(0), embeddings.of_tower(1)
    return embeddings[:, 0], embeddings[:, 1]


def _hold(embeddings: np.ndarray, order: np.ndarray) -> UnitVectors:
    """Normalise embeddings once, in another order."""
    unit = np.empty(embeddings.shape, np.float32)
    for start in range(0, len(order), CHUNK_ROWS):
        some = order[start : start + CHUNK_ROWS]
        unit[start : start + len(some)] = normalize(embeddings[some])
    return UnitVectors(unit)


def normalize(rows: np.ndarray) -> np.ndarray:
    """Scale each row to unit length, whatever rows it comes with; float32."""
    if rows.dtype != np.float32:
        return _normalize_any(rows)
    squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    # Otherwise float32 does not hold the norms, or some entries, to full precision.
    is_plain = (squared > 1e-30) & (squared < 1e70)
    if is_plain.all():
        return rows / np.sqrt(squared).astype(np.float32)[:, None]
    squared[~is_plain] = 1.0
    unit = rows / np.sqrt(squared).astype(np.float32)[:, None]
    unit[~is_plain] = _normalize_any(rows[~is_plain])
    return unit


def _normalize_any(rows: np.ndarray) -> np.ndarray:
    x = np.asarray(rows, dtype=np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return (x / np.where(norm > 0, norm, 1.0)).astype(np.float32)
