"""Embeddings of any source, checked, sorted by class and scaled to unit length."""

from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation.blocks import Blocks
from keras_tcm.evaluation.errors import UndefinedError
from keras_tcm.evaluation.file_rows import MappedRows
from keras_tcm.evaluation.shards import Shards, open_shards
from keras_tcm.evaluation.vectors import CHUNK_ROWS, StoredVectors, Vectors, hold


class Samples:
    """Embeddings sorted by class and scaled to unit length.

    A `numpy.memmap` and `Shards` are read in blocks each time; anything else is
    normalised once.

    Attributes:
        size: Number of samples, `n`.
        codes: Class index of each sample in sorted order, shape `(n,)`.
        starts: First sample of each class, and `n`: shape `(num_classes + 1,)`.
        order: Place of each sample before it was sorted, shape `(n,)`.
        blocks: The unit vectors in sorted order as backend tensors.
    """

    def __init__(
        self, embeddings: np.ndarray | Shards, codes: np.ndarray, num_classes: int
    ) -> None:
        self.size = len(embeddings)
        order = self.order = np.argsort(codes, kind="stable")
        self.codes = codes[order]
        self.starts = np.searchsorted(self.codes, np.arange(num_classes + 1))
        self._vectors: Vectors
        if isinstance(embeddings, Shards):
            self._vectors = StoredVectors(embeddings, order)
        elif isinstance(embeddings, np.memmap):
            self._vectors = StoredVectors(MappedRows(embeddings), order)
        else:
            self._vectors = hold(embeddings, order)
        self.blocks = Blocks(self._vectors)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Unit vectors `start` to `stop` in sorted order, float32."""
        return self._vectors.rows(start, stop)

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Unit vectors at any positions in sorted order, float32."""
        return self._vectors.pick(samples)

    def block(self, start: int, size: int) -> Any:
        """Unit vectors from `start` on as a backend tensor: see `Blocks.block`."""
        return self.blocks.block(start, size)


def unsorted_samples(embeddings: np.ndarray | Shards) -> Samples:
    """Samples in the order in which they come, of one class."""
    return Samples(embeddings, np.zeros(len(embeddings), np.int64), 1)


def check_embeddings(name: str, embeddings: Any) -> np.ndarray | Shards:
    """Return embeddings as finite real numbers of shape `(n, d)`.

    Args:
        name: Name of the argument.
        embeddings: Array, backend tensor, nested sequence, `numpy.memmap`, or list of
            paths of `.npy` files.

    Returns:
        The array; a `numpy.memmap` is returned as it is, and paths as `Shards`.
    """
    embeddings = open_shards(name, embeddings)
    if not isinstance(embeddings, np.ndarray | Shards):
        if keras.ops.is_tensor(embeddings):
            if keras.backend.standardize_dtype(embeddings.dtype) == "bfloat16":
                embeddings = keras.ops.cast(embeddings, "float32")
            embeddings = keras.ops.convert_to_numpy(embeddings)
        embeddings = np.asarray(embeddings)
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
