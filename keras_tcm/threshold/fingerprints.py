"""What ties a threshold to its data and to its model."""

import dataclasses
import hashlib
from typing import Any, Self

import keras
import numpy as np

from keras_tcm.evaluation import check_embeddings, normalize

_DIGEST_BYTES = 16
_NUM_CANARIES = 8
# Components of unit vectors that differ by more are of another model; what half
# precision and other hardware do to them is less.
_TOLERANCE = 0.02


def fingerprint(model: Any) -> str:
    """Digest of the weights of a Keras model: shapes, types and values, in order.

    Args:
        model: A `keras.Model`, or anything with `weights`.

    Returns:
        32 hexadecimal digits.

    Raises:
        TypeError: If it has no weights.
    """
    weights = getattr(model, "weights", None)
    if not isinstance(weights, list | tuple) or not weights:
        raise TypeError(
            f"`model` must be a Keras model with weights. Received: model={model!r}"
        )
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for weight in weights:
        array = keras.ops.convert_to_numpy(weight)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def data_digest(vectors: Any, codes: np.ndarray, chunk_rows: int = 16384) -> str:
    """Digest of unit vectors and their classes, whatever the scale of the embeddings.

    Args:
        vectors: Unit vectors sorted by class, shape `(n, d)`.
        codes: Class of each.
        chunk_rows: Vectors that are read at a time.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(np.asarray(codes, np.int64).tobytes())
    for start in range(0, len(vectors), chunk_rows):
        rows = vectors[start : start + chunk_rows]
        # 0 is -0.
        digest.update(np.ascontiguousarray(rows + np.float32(0.0)).tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Canaries:
    """A few samples and their embeddings: another model embeds them elsewhere.

    Attributes:
        rows: Their row numbers in the data that the threshold was chosen on, shape
            `(k,)`.
        vectors: Their unit vectors, float32, shape `(k, d)`.
    """

    rows: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, vectors: Any, order: np.ndarray) -> Self:
        """Take samples evenly spread over the classes.

        Args:
            vectors: Unit vectors sorted by class.
            order: Row number of each.
        """
        places = np.linspace(0, len(order) - 1, _NUM_CANARIES).astype(np.int64)
        places = np.unique(places)
        return cls(np.asarray(order)[places], vectors[places])

    def verify(self, embeddings: Any) -> None:
        """Raise `ValueError` unless these are the embeddings of the canaries."""
        array = np.asarray(check_embeddings("embeddings", embeddings)[:])
        if array.shape != self.vectors.shape:
            raise ValueError(
                "`embeddings` must be those of the samples `canaries.rows`, of shape "
                f"{self.vectors.shape}. Received: embeddings.shape={array.shape}"
            )
        gap = float(np.abs(normalize(array) - self.vectors).max())
        if gap > _TOLERANCE:
            raise ValueError(
                "`embeddings` must be what the model of the threshold makes of the "
                "samples `canaries.rows`: choose a threshold anew for another model. "
                f"Received: unit vectors that differ by up to {gap:.3g}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the canaries as JSON-ready values."""
        return {"rows": self.rows.tolist(), "vectors": self.vectors.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make canaries of what `to_dict` returned."""
        return cls(
            np.asarray(values["rows"], np.int64),
            np.asarray(values["vectors"], np.float32),
        )
