"""Per-class histograms of pair distances that follow a memory of samples."""

import numpy as np

from keras_tcm.metrics.changes import Snapshot

# Bins of equal width in Euclidean distance, [0, 2]: fine where embeddings are close.
NUM_BINS = 2048
_BLOCK_PAIRS = 2**22


class PairHistograms:
    """Histograms of the distances from the samples of each class to all others.

    Every pair is counted from both of its ends.

    Attributes:
        all_pairs: Counts of shape `(classes, NUM_BINS)`.
        positive: The part of them that is pairs inside the class.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._memory = Snapshot()
        self._slots = np.zeros(0, np.int64)
        self._slot_of_label: dict[int, int] = {}
        self.all_pairs = np.zeros((0, NUM_BINS), np.int64)
        self.positive = np.zeros((0, NUM_BINS), np.int64)

    def follow(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Bring the counts up to date with a memory.

        Args:
            embeddings: Unit vectors of shape `(n, d)`.
            labels: Shape `(n,)`.
        """
        changed = self._memory.changed_rows(embeddings, labels)
        # In a sliding window, rows of classes that have left must not pile up.
        has_many_empty = len(self._slot_of_label) > 2 * len(np.unique(labels))
        if changed is None or has_many_empty:
            self._clear()
            changed = np.zeros(0, np.int64)
        old_size = len(self._memory.labels)
        self._count(self._memory.embeddings, changed, -1)
        self._memory.take(embeddings, labels)
        rows = np.concatenate([changed, np.arange(old_size, len(labels))])
        self._slots = np.concatenate(
            [self._slots, np.zeros(len(labels) - old_size, np.int64)]
        )
        for row in rows:
            self._slots[row] = self._slot_of_label.setdefault(
                labels[row].item(), len(self._slot_of_label)
            )
        missing = len(self._slot_of_label) - len(self.all_pairs)
        self.all_pairs = np.pad(self.all_pairs, ((0, missing), (0, 0)))
        self.positive = np.pad(self.positive, ((0, missing), (0, 0)))
        self._count(embeddings, rows, 1)

    def _count(self, embeddings: np.ndarray, rows: np.ndarray, sign: int) -> None:
        """Add or take back all pairs with an end in `rows`."""
        if not len(rows):
            return
        is_old = np.ones(len(embeddings), bool)
        is_old[rows] = False
        block = max(1, _BLOCK_PAIRS // len(embeddings))
        for start in range(0, len(rows), block):
            anchors = rows[start : start + block]
            similarities = embeddings[anchors] @ embeddings.T
            distances = np.sqrt(np.maximum(2.0 - 2.0 * similarities, 0.0))
            bins = np.minimum(
                (distances * (NUM_BINS / 2)).astype(np.int64), NUM_BINS - 1
            )
            is_pair = np.ones(bins.shape, bool)
            is_pair[np.arange(len(anchors)), anchors] = False
            is_positive = is_pair & (self._slots[anchors][:, None] == self._slots)
            # A pair of two new rows is met twice; one with an old row counts here for
            # both of its ends.
            own = self._slots[anchors][:, None] * NUM_BINS + bins
            other = (self._slots * NUM_BINS + bins)[:, is_old]
            _add(self.all_pairs, sign, own[is_pair], other.ravel())
            _add(self.positive, sign, own[is_positive], other[is_positive[:, is_old]])


def _add(counts: np.ndarray, sign: int, *keys: np.ndarray) -> None:
    """Count keys, indices into the flattened counts, in place."""
    flat = counts.reshape(-1)
    for key in keys:
        flat += sign * np.bincount(key, minlength=flat.size)
