"""The samples of an evaluation, checked."""

import dataclasses
import warnings
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
from keras_tcm.evaluation.same_samples import find_queries
from keras_tcm.evaluation.samples import Samples, check_embeddings, unsorted_samples
from keras_tcm.evaluation.shards import Shards, read_label_shards
from keras_tcm.evaluation.tile_walk import Progress
from keras_tcm.labels import encode_labels
from keras_tcm.relevance import Relevance
from keras_tcm.validation import check_choice


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Vectors and labels of the queries, and of the gallery if there is one.

    Attributes:
        vectors: Embeddings of the queries, and of the gallery.
        labels: Their labels, as `read_labels` returns them.
        relevance: Tells which pairs are positive; `None` for equal labels.
        own: Place of each query in the gallery, or `None` if they are not in it.
    """

    vectors: list[np.ndarray | Shards]
    labels: list[Any]
    relevance: Relevance | None
    own: np.ndarray | None

    @property
    def num_pairs(self) -> int:
        """Number of pairs, each counted once."""
        first, last = len(self.vectors[0]), len(self.vectors[-1])
        if len(self.vectors) == 1:
            return first * (first - 1) // 2
        return first * last - (0 if self.own is None else first)

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
            own = self.own
            if own is not None:
                # From places as they came to places in the order of classes.
                own = np.argsort(samples[1].order)[own[samples[0].order]]
            return LabelPairs(
                *_query_and_gallery(samples),
                own,
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
            self.own,
        )
        memberships = find_memberships(self.relevance, self.labels[0], self.labels[-1])
        return RelevancePairs(walk, memberships, ks, new_progress)


def check_inputs(
    embeddings: Any,
    labels: Any,
    gallery_embeddings: Any,
    gallery_labels: Any,
    relevance: Relevance | None,
    gallery_includes_queries: bool = False,
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
    check_choice("gallery_includes_queries", gallery_includes_queries, (True, False))
    if gallery_includes_queries and gallery_embeddings is None:
        raise ValueError(
            "`gallery_includes_queries` must be False without a gallery. "
            "Received: gallery_embeddings=None, gallery_includes_queries=True"
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
    own = None
    if gallery_embeddings is embeddings:
        codes, gallery_codes = _label_codes(known)
        if not np.array_equal(codes, gallery_codes):
            raise ValueError(
                "`gallery_labels` must equal `labels` where `gallery_embeddings` is "
                "`embeddings`. Received: other labels"
            )
        # The same samples: a sample never pairs with itself.
        vectors, known = vectors[:1], known[:1]
    elif len(vectors) > 1:
        own = _find_own(vectors, known, gallery_includes_queries)
        if own is not None and len(vectors[0]) == len(vectors[1]):
            # The same samples again, in any order.
            vectors, known, own = vectors[:1], known[:1], None
    if len(vectors) == 1:
        check_symmetric(relevance)
    return Inputs(vectors, known, relevance, own)


def _find_own(
    vectors: list[np.ndarray | Shards], labels: list[Any], is_included: bool
) -> np.ndarray | None:
    """Find the queries in the gallery, if it is to include them, or warn of any."""
    own = find_queries(vectors, _label_codes(labels))
    if is_included:
        missing = np.flatnonzero(own < 0)
        if len(missing):
            raise ValueError(
                "`gallery_embeddings` must hold every query, bit for bit and with its "
                "label, where `gallery_includes_queries` is True. Received: a gallery "
                f"without {len(missing)} of {len(own)} queries, the first at index "
                f"{missing[0]}"
            )
        return own
    num_found = int((own >= 0).sum())
    if num_found:
        warnings.warn(
            f"{num_found} of {len(own)} queries are in the gallery, bit for bit and "
            "with their label, so that each of them finds itself. If the gallery "
            "includes the queries, say `gallery_includes_queries=True`: a sample then "
            "never pairs with itself.",
            stacklevel=4,
        )
    return None


def _label_codes(labels: list[Any]) -> list[np.ndarray]:
    """Numbers that are equal where labels of queries and gallery are equal."""
    if isinstance(labels[0], np.ndarray) and labels[0].ndim > 1:
        rows = np.concatenate(labels)
        _, codes = np.unique(rows, axis=0, return_inverse=True)
        return np.split(codes.reshape(-1), [len(labels[0])])
    return encode_labels(*labels)[1]


def _query_and_gallery(values: list[Any]) -> tuple[Any, Any]:
    """The first two values, `None` for the second if there is only one."""
    return values[0], values[1] if len(values) > 1 else None
