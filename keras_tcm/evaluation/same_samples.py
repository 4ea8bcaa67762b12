"""Which samples of a gallery are the queries themselves."""

import hashlib
from typing import Any

import numpy as np

from keras_tcm.evaluation.vectors import CHUNK_ROWS


def find_queries(vectors: list[Any], codes: list[np.ndarray]) -> np.ndarray:
    """Find each query in the gallery: an equal vector, bit for bit, and an equal label.

    Where several are equal, the first query is the first of them, and so on: no sample
    of the gallery is two queries. The time is linear, and vectors in files are read in
    blocks.

    Args:
        vectors: Embeddings of the queries and of the gallery, as `check_embeddings`
            returns them.
        codes: A number for the label of each sample, likewise.

    Returns:
        Place of each query in the gallery, or -1; shape `(queries,)`.
    """
    num_queries = len(vectors[0])
    digests = np.concatenate(
        [_digests(x, code) for x, code in zip(vectors, codes, strict=True)]
    )
    _, kinds = np.unique(digests, return_inverse=True)
    queries, gallery = kinds[:num_queries], kinds[num_queries:]
    # Each sample is told by its kind, and how many of the kind come before it.
    wanted = queries * len(digests) + _num_before(queries)
    known = gallery * len(digests) + _num_before(gallery)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    places = order[places]
    return np.where(known[places] == wanted, places, -1)


def _digests(vectors: Any, codes: np.ndarray) -> np.ndarray:
    """Numbers that tell rows with their labels apart (64 bits)."""
    digests = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), CHUNK_ROWS):
        # What is normalised; and 0 is -0.
        rows = np.asarray(vectors[start : start + CHUNK_ROWS], np.float64) + 0.0
        for number, row in enumerate(rows, start=start):
            digest = hashlib.blake2b(row.tobytes(), digest_size=8)
            digest.update(codes[number].tobytes())
            digests[number] = int.from_bytes(digest.digest(), "little")
    return digests


def _num_before(kinds: np.ndarray) -> np.ndarray:
    """How many of the same kind come before each."""
    order = np.argsort(kinds, kind="stable")
    in_order = kinds[order]
    num_before = np.empty(len(kinds), np.int64)
    num_before[order] = np.arange(len(kinds)) - np.searchsorted(in_order, in_order)
    return num_before
