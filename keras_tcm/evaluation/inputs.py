"""The samples of an evaluation, checked."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_tcm.evaluation.executors import Executor
from keras_tcm.evaluation.label_pairs import LabelPairs
from keras_tcm.evaluation.pairs import Pairs
from keras_tcm.evaluation.relevance_labels import (
    check_symmetric,
    find_memberships,
    has_single_labels,
    read_labels,
)
from keras_tcm.evaluation.relevance_pairs import RelevancePairs
from keras_tcm.evaluation.relevance_walk import RelevanceWalk
from keras_tcm.evaluation.samples import Samples, check_embeddings, unsorted_samples
from keras_tcm.evaluation.shards import Shards, read_label_shards
from keras_tcm.evaluation.tile_walk import Progress
from keras_tcm.labels import encode_labels
from keras_tcm.relevance import Relevance


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Vectors and labels of the queries, and of the gallery if there is one.

    Attributes:
        vectors: Embeddings of the queries, and of the gallery.
        labels: Their labels, as `read_labels` returns them.
        relevance: Tells which pairs are positive; `None` for equal labels.
    """

    vectors: list[np.ndarray | Shards]
    labels: list[Any]
    relevance: Relevance | None

    @property
    def num_pairs(self) -> int:
        """Number of pairs, each counted once."""
        first, last = len(self.vectors[0]), len(self.vectors[-1])
        return first * last if len(self.vectors) > 1 else first * (first - 1) // 2

    def pairs(
        self,
        ks: tuple[int, ...],
        max_pairs: int | None,
        seed: int,
        block_size: int | None,
        executor: Executor | None,
        new_progress: Callable[[], Progress | None],
    ) -> Pairs:
        """Make what counts the pairs; see `LabelPairs` for the arguments."""
        # No rank is larger, and those that are asked for may exceed every integer type.
        ks = tuple(min(k, len(self.vectors[-1])) for k in ks)
        if self.relevance is None or has_single_labels(self.relevance):
            classes, codes = encode_labels(*self.labels)
            samples = [
                Samples(x, code, len(classes))
                for x, code in zip(self.vectors, codes, strict=True)
            ]
            return LabelPairs(
                *_query_and_gallery(samples),
                classes,
                ks,
                max_pairs,
                seed,
                block_size,
                executor,
                new_progress,
            )
        walk = RelevanceWalk(
            *_query_and_gallery([unsorted_samples(x) for x in self.vectors]),
            *_query_and_gallery(self.labels),
            self.relevance,
            block_size,
        )
        memberships = find_memberships(self.relevance, self.labels[0], self.labels[-1])
        return RelevancePairs(walk, memberships, ks, new_progress)


def check_inputs(
    embeddings: Any,
    labels: Any,
    gallery_embeddings: Any,
    gallery_labels: Any,
    relevance: Relevance | None,
) -> Inputs:
    """Check what `evaluate_embeddings` got."""
    if (gallery_embeddings is None) != (gallery_labels is None):
        given, missing = "gallery_embeddings", "gallery_labels"
        if gallery_embeddings is None:
            given, missing = missing, given
        raise ValueError(
            f"`{missing}` must be given together with `{given}`. "
            f"Received: {missing}=None"
        )
    vectors = [check_embeddings("embeddings", embeddings)]
    labels = read_label_shards("labels", labels, vectors[0])
    given_labels = [("labels", labels, len(vectors[0]))]
    if gallery_embeddings is not None:
        vectors.append(check_embeddings("gallery_embeddings", gallery_embeddings))
        gallery_labels = read_label_shards("gallery_labels", gallery_labels, vectors[1])
        given_labels.append(("gallery_labels", gallery_labels, len(vectors[1])))
        if vectors[1].shape[1] != vectors[0].shape[1]:
            raise ValueError(
                "`gallery_embeddings` must have the dimension of `embeddings`, "
                f"{vectors[0].shape[1]}. Received: "
                f"gallery_embeddings.shape={vectors[1].shape}"
            )
    known = read_labels(given_labels, relevance)
    if gallery_embeddings is embeddings:
        # The same samples: a sample never pairs with itself.
        if not _are_equal(*known):
            raise ValueError(
                "`gallery_labels` must equal `labels` where `gallery_embeddings` is "
                "`embeddings`. Received: other labels"
            )
        vectors, known = vectors[:1], known[:1]
    if len(vectors) == 1:
        check_symmetric(relevance)
    return Inputs(vectors, known, relevance)


def _are_equal(labels: Any, others: Any) -> bool:
    if np.ndim(labels) > 1:
        return np.array_equal(labels, others)
    _, (codes, other_codes) = encode_labels(labels, others)
    return np.array_equal(codes, other_codes)


def _query_and_gallery(values: list[Any]) -> tuple[Any, Any]:
    """The first two values, `None` for the second if there is only one."""
    return values[0], values[1] if len(values) > 1 else None
