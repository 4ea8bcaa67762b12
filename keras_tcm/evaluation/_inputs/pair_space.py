"""Which pairs there are: queries against a gallery, or against each other."""

import dataclasses
import hashlib
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from keras_tcm.evaluation._inputs.samples import (
    CHUNK_ROWS,
    Samples,
    Shards,
    check_embeddings,
    open_rows,
    read_label_shards,
    sort_samples,
    split_towers,
    unsorted_samples,
)
from keras_tcm.evaluation.score_normalization import (
    ScoredRows,
    ScoreNormalization,
)
from keras_tcm.labels import check_labels, encode_labels, to_array
from keras_tcm.relevance import (
    ClassRelevance,
    HierarchyLevel,
    Relevance,
    SharedLabel,
    get_relevance,
)
from keras_tcm.validation import UndefinedError, check_choice


@dataclasses.dataclass(frozen=True, eq=False)
class PairSpace:
    """Queries against a gallery.

    Attributes:
        queries: The queries, sorted by class; under a `relevance` as they came.
        gallery: The gallery, likewise; if there is no other, the queries themselves as
            the other end of a pair.
        has_gallery: Whether the gallery is another than the queries. Without, each pair
            has two queries, and is met from both of its ends.
        own: Place of each query in the gallery, where it does not pair with itself;
            `None` if the queries are not in it. Shape `(queries.size,)`.
        classes: Labels of the classes, by class index; none under a `relevance`.
        relevance: Tells which pairs are positive; `None` for those of one class.
        labels: Labels of queries and gallery that it compares, or none.
    """

    queries: Samples
    gallery: Samples
    has_gallery: bool
    own: np.ndarray | None
    classes: Sequence[Hashable] = ()
    relevance: Relevance | None = None
    labels: tuple[np.ndarray, ...] = ()

    @property
    def times_met(self) -> int:
        """How often each pair is met from the side of the queries."""
        return 1 if self.has_gallery else 2

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return int(self.queries.vectors.embeddings[:1].shape[1])

    @property
    def num_own(self) -> int:
        """1 if each query is in the gallery, and 0 otherwise."""
        return 0 if self.own is None else 1

    @property
    def num_pairs(self) -> int:
        """Number of pairs, each counted once."""
        per_query = self.gallery.size - self.num_own
        return self.queries.size * per_query // self.times_met

    def of_queries(self, places: np.ndarray) -> "PairSpace":
        """Some queries, at increasing places, against the whole gallery."""
        return dataclasses.replace(
            self,
            queries=self.queries.some(places),
            has_gallery=True,
            own=None if self.own is None else self.own[places],
        )

    def of_classes(self, is_wanted: np.ndarray) -> "PairSpace":
        """The queries of some classes against each other, without any gallery.

        Args:
            is_wanted: Whether each class is one of these, shape `(num_classes,)`.
        """
        samples = self.queries.of_classes(is_wanted)
        return dataclasses.replace(
            self,
            queries=samples,
            gallery=samples.flipped,
            has_gallery=False,
            own=np.arange(samples.size),
        )


def pair_space(
    embeddings: Any,
    labels: Any,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    relevance: Relevance | None = None,
    gallery_includes_queries: bool = False,
    score_normalization: ScoreNormalization | None = None,
) -> PairSpace:
    """Check and order what is compared; see `evaluate_embeddings` for the arguments."""
    rows = open_rows("embeddings", embeddings)
    if rows.ndim == 3:
        _check_alone(gallery_embeddings, gallery_labels, gallery_includes_queries)
        towers = split_towers("embeddings", rows)
        vectors = [
            check_embeddings(f"embeddings[:, {number}]", one)
            for number, one in enumerate(towers)
        ]
        labels = read_label_shards("labels", labels, vectors[0])
        (known,) = read_labels([("labels", labels, len(rows))], relevance)
        return _scored_space(vectors, [known, known], relevance, score_normalization)
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
    vectors = [check_embeddings("embeddings", rows)]
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
    return _scored_space(vectors, known, relevance, score_normalization, own)


def _check_alone(
    gallery_embeddings: Any, gallery_labels: Any, gallery_includes_queries: Any
) -> None:
    """Raise if there is a gallery beside stacked embeddings, which hold their own."""
    reason = (
        "with `embeddings` of shape (samples, 2, dimension), which hold the gallery"
    )
    for name, value in (
        ("gallery_embeddings", gallery_embeddings),
        ("gallery_labels", gallery_labels),
    ):
        if value is not None:
            raise ValueError(
                f"`{name}` must be None {reason}. "
                f"Received: {name} of type {type(value).__name__}"
            )
    if gallery_includes_queries:
        raise ValueError(
            f"`gallery_includes_queries` must be False {reason}. "
            f"Received: gallery_includes_queries={gallery_includes_queries!r}"
        )


def _scored_space(
    vectors: Sequence[np.ndarray | Shards],
    known: Sequence[Any],
    relevance: Relevance | None,
    score_normalization: ScoreNormalization | None,
    own: np.ndarray | None = None,
) -> PairSpace:
    """Order what has been checked, with the scores that are to be compared."""
    if score_normalization is not None:
        score_normalization.check_dimension("embeddings", vectors[0].shape[1])
        scored = [score_normalization.rows(x) for x in vectors]
        return make_space(
            [scored[0], *(x.flipped for x in scored[1:])], known, relevance, own
        )
    return make_space(vectors, known, relevance, own)


def make_space(
    vectors: Sequence[np.ndarray | Shards | ScoredRows],
    labels: Sequence[Any],
    relevance: Relevance | None = None,
    own: np.ndarray | None = None,
) -> PairSpace:
    """Order what has been checked.

    Args:
        vectors: Embeddings of the queries, and of the gallery if there is one.
        labels: Their labels, as `read_labels` returns them.
        relevance: Tells which pairs are positive; `None` for equal labels.
        own: Place of each query in the gallery as both came, or `None`.
    """
    has_gallery = len(vectors) > 1
    classes: Sequence[Hashable] = ()
    if has_single_labels(relevance):
        classes, codes = encode_labels(*labels)
        ordered = [
            sort_samples(x, code, len(classes))
            for x, code in zip(vectors, codes, strict=True)
        ]
        if own is not None:
            # To places in the order of classes.
            own = np.argsort(ordered[1].order)[own[ordered[0].order]]
        relevance, labels = None, ()
    else:
        ordered = [unsorted_samples(x) for x in vectors]
    if not has_gallery:
        own = np.arange(ordered[0].size)
    return PairSpace(
        queries=ordered[0],
        gallery=ordered[-1] if has_gallery else ordered[0].flipped,
        has_gallery=has_gallery,
        own=own,
        classes=classes,
        relevance=relevance,
        labels=tuple(labels),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ClassSizes:
    """How many samples, and pairs, the classes of a space have.

    Attributes:
        query_counts: Queries of each class, shape `(classes,)`.
        eligible: Classes with a query, a positive and a negative pair, increasing.
        slots: Index of each class among the eligible, or their number.
        num_positives: (query, gallery) pairs inside each eligible class, counted from
            each end that is a query.
        num_negatives: The same for pairs with the other end outside.
        num_negative_pairs: All negative pairs, each counted once.
        num_excluded: Classes with a query that are not eligible.
        gallery_slots: Index of each class among those with a gallery sample, `K` of
            them, or `K`.
        gallery_negatives: Pairs of each of those with a query of another class; for one
            that is not eligible, those of its queries too. Shape `(K,)`.
        num_absent: Classes with a query and no gallery sample.
    """

    query_counts: np.ndarray
    eligible: np.ndarray
    slots: np.ndarray
    num_positives: np.ndarray
    num_negatives: np.ndarray
    num_negative_pairs: int
    num_excluded: int
    gallery_slots: np.ndarray
    gallery_negatives: np.ndarray
    num_absent: int


def class_sizes(space: PairSpace) -> ClassSizes:
    """Count the samples and the pairs of each class.

    Raises:
        UndefinedError: If fewer than two are eligible.
    """
    query_counts = np.diff(space.queries.starts)
    gallery_counts = np.diff(space.gallery.starts)
    per_query = gallery_counts - space.num_own
    others = space.gallery.size - gallery_counts
    eligible = np.flatnonzero((query_counts > 0) & (per_query > 0) & (others > 0))
    num_classes = int((query_counts > 0).sum())
    check_classes(len(eligible), num_classes)
    slots = np.full(len(query_counts), len(eligible), np.int32)
    slots[eligible] = np.arange(len(eligible))
    is_in_gallery = gallery_counts > 0
    gallery_slots = np.full(len(query_counts), is_in_gallery.sum(), np.int32)
    gallery_slots[is_in_gallery] = np.arange(is_in_gallery.sum())
    of_gallery = gallery_counts * (space.queries.size - query_counts)
    is_eligible = slots < len(eligible)
    either = of_gallery + np.where(is_eligible, 0, query_counts * others)
    return ClassSizes(
        query_counts=query_counts,
        eligible=eligible,
        slots=slots,
        num_positives=(query_counts * per_query)[eligible],
        num_negatives=(query_counts * others)[eligible],
        num_negative_pairs=int((query_counts * others).sum()) // space.times_met,
        num_excluded=num_classes - len(eligible),
        gallery_slots=gallery_slots,
        gallery_negatives=either[is_in_gallery],
        num_absent=int(((query_counts > 0) & ~is_in_gallery).sum()),
    )


def check_classes(num_eligible: int, num_classes: int) -> None:
    """Raise unless there are classes to compare."""
    if num_eligible < 2:
        raise UndefinedError(
            "`labels` must have at least two classes with a positive and a "
            f"negative pair. Received: {num_eligible} such classes among {num_classes}"
        )


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


def find_queries(vectors: list[Any], codes: list[np.ndarray]) -> np.ndarray:
    """Find each query in the gallery: an equal vector, bit for bit, and an equal label.

    Where several are equal, the first query is the first of them, and so on: no sample
    of the gallery is two queries. The time is linear, and vectors in files are read in
    chunks.

    Args:
        vectors: Embeddings of the queries and of the gallery, from `check_embeddings`.
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


def check_relevance(relevance: Any, has_gallery: bool = True) -> Relevance | None:
    """Return a relevance under which samples have classes.

    Args:
        relevance: What a user gives: an object of `keras_tcm.relevance`, or `None` for
            equal labels.
        has_gallery: Whether there may be a gallery. Without, the relevance must be
            symmetric. Defaults to `True`.

    Raises:
        TypeError: If it is no relevance.
        ValueError: If it makes no classes, or is not symmetric.
    """
    relevance = get_relevance(relevance)
    known = (SharedLabel, HierarchyLevel, ClassRelevance)
    if relevance is not None and not isinstance(relevance, known):
        raise ValueError(
            "`relevance` must be a SharedLabel, HierarchyLevel or ClassRelevance, or "
            "None: a function makes no classes, over which OPIS is defined. "
            f"Received: relevance={relevance!r}"
        )
    if not has_gallery:
        check_symmetric(relevance)
    return relevance


def check_symmetric(relevance: Relevance | None) -> None:
    """Raise unless it does not matter which end of a pair is the query."""
    if relevance is not None and not relevance.is_symmetric:
        raise ValueError(
            "`relevance` must be symmetric where samples are compared with each other, "
            "for which threshold is the same from both ends of a pair. "
            "Received: a matrix that is not"
        )


def has_single_labels(relevance: Relevance | None) -> bool:
    """Whether a pair is positive if its ends have the same single label."""
    return relevance is None or isinstance(relevance, HierarchyLevel)


def read_labels(
    given: Sequence[tuple[str, Any, int]], relevance: Relevance | None
) -> list[Any]:
    """Check the labels of queries and gallery.

    Args:
        given: Name of the argument, its value and the number of samples, for each.
        relevance: What compares them.

    Returns:
        For each: single labels as `check_labels` returns them, multi-hot rows as
        booleans, the classes of a `ClassRelevance` as integers, and for anything else
        an array.
    """
    if relevance is None:
        return [check_labels(*one) for one in given]
    arrays: list[np.ndarray] = []
    for name, labels, size in given:
        array = _as_array(name, labels)
        relevance.check_labels(name, array.shape)
        if len(array) != size:
            raise ValueError(
                f"`{name}` must have one row per sample, {size}. "
                f"Received: {name}.shape={array.shape}"
            )
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"`{name}` must be as wide as `{given[0][0]}`, {arrays[0].shape[1]}. "
                f"Received: {name}.shape={array.shape}"
            )
        arrays.append(array)
    return [
        _read(name, array, relevance)
        for (name, _, _), array in zip(given, arrays, strict=True)
    ]


def _as_array(name: str, labels: Any) -> np.ndarray:
    array, _ = to_array(name, labels)
    # As objects first: NumPy would turn the integers beside strings into strings, and
    # rows of different lengths fail later, with a shape that tells.
    return np.array(labels, dtype=object) if array is None else array


def _read(name: str, array: np.ndarray, relevance: Relevance) -> Any:
    if isinstance(relevance, HierarchyLevel):
        return _prefixes(name, array[:, : relevance.level + 1])
    if isinstance(relevance, ClassRelevance):
        known = check_labels(name, array, len(array))
        kinds = set(map(type, known)) - {int, bool} if isinstance(known, list) else ()
        if kinds:
            raise TypeError(f"`{name}` must hold integers. Received: {kinds.pop()}")
        return known
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"`{name}` must hold numbers. Received: {name}.dtype={array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinity")
    return array > 0 if isinstance(relevance, SharedLabel) else array


def _prefixes(name: str, rows: np.ndarray) -> list[Hashable] | np.ndarray:
    """Rows as single labels: tuples, or the value itself in rows of one."""
    columns = [check_labels(name, column, len(rows)) for column in rows.T]
    if len(columns) == 1:
        return columns[0]
    values = (x.tolist() if isinstance(x, np.ndarray) else x for x in columns)
    return list(zip(*values, strict=True))
