"""What changed in a memory since it was last looked at."""

import numpy as np


class Snapshot:
    """A copy of a memory that tells which of its rows changed.

    Results that depend on all pairs are kept up to date from the changed rows. Because
    the contents themselves are compared, that is right after any reset, wrap-around or
    restored state.

    Attributes:
        embeddings: Float32 array of shape `(n, d)`.
        labels: Array of shape `(n,)`.
    """

    def __init__(self) -> None:
        self.embeddings = np.zeros((0, 0), np.float32)
        self.labels = np.zeros(0, np.int64)

    def changed_rows(
        self, embeddings: np.ndarray, labels: np.ndarray
    ) -> np.ndarray | None:
        """Rows of the copy that differ from the same rows of a memory.

        Returns:
            Increasing indices into the copy, or `None` if it is better to start anew:
            rows are gone, or most of the memory would have to be taken back.
        """
        size = len(self.labels)
        if len(labels) < size or embeddings.shape[1] != self.embeddings.shape[1]:
            return None
        differs = (self.embeddings != embeddings[:size]).any(axis=1)
        changed = np.flatnonzero(differs | (self.labels != labels[:size]))
        return None if 2 * len(changed) > size else changed

    def take(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Copy a memory."""
        self.embeddings = embeddings.copy()
        self.labels = labels.copy()
