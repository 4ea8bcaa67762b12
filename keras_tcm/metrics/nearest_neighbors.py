"""The nearest neighbours of every sample in a memory, kept up to date."""

import numpy as np

from keras_tcm.metrics.changes import Snapshot

# Positives lose this much similarity, so that ties count against the query.
_TIE = 1e-6
_BLOCK_PAIRS = 2**22


class NearestNeighbors:
    """The k nearest others of every sample of a memory.

    Attributes:
        indices: Neighbours of each sample in no particular order, shape `(n, k)`; -1
            where there are fewer.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._clear()

    def _clear(self) -> None:
        self._memory = Snapshot()
        self.indices = np.zeros((0, self._k), np.int64)
        self._similarities = np.zeros((0, self._k), np.float32)

    def follow(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Bring the neighbours up to date with a memory.

        Args:
            embeddings: Unit vectors of shape `(n, d)`.
            labels: Shape `(n,)`.
        """
        changed = self._memory.changed_rows(embeddings, labels)
        if changed is None:
            self._clear()
            changed = np.zeros(0, np.int64)
        old_size = len(self.indices)
        self._memory.take(embeddings, labels)
        # A neighbour that changed may have to give way to any other sample.
        stale = np.any(np.isin(self.indices, changed), axis=1)
        stale[changed] = True
        kept = np.flatnonzero(~stale)
        added = np.arange(old_size, len(labels))
        columns = np.concatenate([changed, added])
        fresh = np.concatenate([np.flatnonzero(stale), added])

        grown = ((0, len(added)), (0, 0))
        self.indices = np.pad(self.indices, grown, constant_values=-1)
        self._similarities = np.pad(self._similarities, grown, constant_values=-np.inf)
        self.indices[fresh] = -1
        self._similarities[fresh] = -np.inf
        self._merge(kept, columns)
        self._merge(fresh, np.arange(len(labels)))

    def _merge(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Let `columns` compete for the neighbours of `rows`."""
        if not len(rows) or not len(columns):
            return
        embeddings, labels = self._memory.embeddings, self._memory.labels
        candidates = embeddings[columns].T
        block = max(1, _BLOCK_PAIRS // len(columns))
        for start in range(0, len(rows), block):
            some = rows[start : start + block]
            similarities = embeddings[some] @ candidates
            same_label = labels[some][:, None] == labels[columns]
            similarities -= _TIE * same_label.astype(np.float32)
            similarities[some[:, None] == columns] = -np.inf
            joint = np.concatenate([self._similarities[some], similarities], axis=1)
            best = np.argpartition(-joint, self._k - 1, axis=1)[:, : self._k]
            numbers = np.concatenate(
                [self.indices[some], np.broadcast_to(columns, similarities.shape)],
                axis=1,
            )
            values = np.take_along_axis(joint, best, axis=1)
            numbers = np.take_along_axis(numbers, best, axis=1)
            self._similarities[some] = values
            self.indices[some] = np.where(np.isneginf(values), -1, numbers)
