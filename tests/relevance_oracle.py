"""Reference values in float64 where positives are not a matter of equal labels.

Loops over pairs, from the definitions: a kind of labels says which pairs are positive,
which classes there are, and how often a pair counts for a class. Curves, scores and
operating points are those of `oracles`, which know nothing of labels.
"""

from types import SimpleNamespace

import numpy as np
import oracles


class Shared:
    """Rows with an entry above 0 for each label that a sample has."""

    def is_positive(self, a, b):
        return any(x > 0 and y > 0 for x, y in zip(a, b, strict=True))

    def classes(self, labels):
        width = len(labels[0])
        return [c for c in range(width) if any(row[c] > 0 for row in labels)]

    def has(self, label, c):
        return label[c] > 0

    def times(self, is_positive, is_first, is_second, has_gallery):
        """How often a pair counts for a class, from which of its ends are in it."""
        if is_positive:
            return is_first and is_second
        return is_first + (is_second and not has_gallery)


class Levels(Shared):
    """Rows from the coarsest to the finest level, to be equal down to one of them."""

    def __init__(self, level):
        self.level = level

    def prefix(self, row):
        return row[0] if self.level == 0 else tuple(row[: self.level + 1])

    def is_positive(self, a, b):
        return self.prefix(a) == self.prefix(b)

    def classes(self, labels):
        return sorted({self.prefix(row) for row in labels})

    def has(self, label, c):
        return self.prefix(label) == c


class Matrix:
    """Class ids, and a matrix of those that match."""

    def __init__(self, matrix):
        self.matrix = matrix

    def is_positive(self, a, b):
        known = range(len(self.matrix))
        return a in known and b in known and self.matrix[a][b] > 0

    def classes(self, labels):
        return sorted(set(labels))

    def has(self, label, c):
        return label == c

    def times(self, is_positive, is_first, is_second, has_gallery):
        return is_first + (is_second and not has_gallery)


class Function:
    """Any function of two labels."""

    def __init__(self, function):
        self.is_positive = function


def pairs_of(x, labels, kind, gallery=None, gallery_labels=None, own=()):
    """(cosine distance, is positive, times for each class) of every pair, by distance.

    Unordered pairs of different samples, or (query, gallery) pairs, which count for the
    classes of the query only. `own` tells where each query is in the gallery, if it is
    there: it does not pair with itself.
    """
    s = oracles.similarities(x, gallery)
    classes = kind.classes(labels)
    pairs = []
    for i, a in enumerate(labels):
        if gallery is None:
            partners = [(j, labels[j]) for j in range(i + 1, len(labels))]
        else:
            partners = list(enumerate(gallery_labels))
        for j, b in partners:
            if len(own) and own[i] == j:
                continue
            is_positive = kind.is_positive(a, b)
            times = {
                c: int(
                    kind.times(
                        is_positive, kind.has(a, c), kind.has(b, c), gallery is not None
                    )
                )
                for c in classes
            }
            pairs.append((1 - s[i, j], is_positive, times))
    return sorted(pairs, key=lambda pair: pair[0])


def retrieval(
    x, labels, kind, gallery=None, gallery_labels=None, own=(), ks=(1, 2, 4, 8)
):
    """Recall at each k and mAP@R over the queries that have a positive.

    A negative as near as a positive ranks before it.
    """
    s = oracles.similarities(x, gallery)
    others = labels if gallery is None else gallery_labels
    own = range(len(labels)) if gallery is None else own
    hits, precisions = {k: [] for k in ks}, []
    for i, a in enumerate(labels):
        ranked = []
        for j, b in enumerate(others):
            if len(own) and own[i] == j:
                continue
            is_positive = kind.is_positive(a, b)
            ranked.append((-s[i, j] + (oracles.TIE if is_positive else 0), is_positive))
        ranked = [is_positive for _, is_positive in sorted(ranked)]
        size = sum(ranked)
        if size == 0:
            continue
        for k in ks:
            hits[k].append(any(ranked[:k]))
        precisions.append(
            sum(sum(ranked[: n + 1]) / (n + 1) for n in range(size) if ranked[n]) / size
        )
    return {k: np.mean(hits[k]) for k in ks}, np.mean(precisions)


def evaluate(
    x,
    labels,
    kind,
    gallery=None,
    gallery_labels=None,
    far_range=(0.01, 0.1),
    frr_range=None,
    calibration_range=None,
    beta=1.0,
    epsilon=0.1,
    distance="cosine",
    num_thresholds=101,
    recall_at=(1, 2, 4, 8),
    far_targets=(0.001, 0.01, 0.1),
    own=(),
):
    pairs = pairs_of(x, labels, kind, gallery, gallery_labels, own)
    positives = [d for d, is_positive, _ in pairs if is_positive]
    negatives = [d for d, is_positive, _ in pairs if not is_positive]

    def counted(c, wanted):
        return [
            d
            for d, is_positive, times in pairs
            for _ in range(times[c])
            if is_positive == wanted
        ]

    all_classes = kind.classes(labels)
    positives_of = {c: counted(c, True) for c in all_classes}
    negatives_of = {c: counted(c, False) for c in all_classes}
    classes = [c for c in all_classes if positives_of[c] and negatives_of[c]]

    if calibration_range is None:
        source, shares = negatives, far_range
        if frr_range is not None:
            source, shares = positives, (1 - frr_range[1], 1 - frr_range[0])
        measured = [oracles.from_cosine(d, distance) for d in source]
        calibration_range = np.quantile(measured, shares)
    thresholds = np.linspace(*calibration_range, num_thresholds)

    curves = np.zeros((len(classes), num_thresholds))
    decided = np.ones(curves.shape, bool)
    for row, c in enumerate(classes):
        for k, threshold in enumerate(thresholds):
            d = oracles.to_cosine(threshold, distance)
            sensitivity = oracles.share_within(positives_of[c], d)
            specificity = 1 - oracles.share_within(negatives_of[c], d)
            curves[row, k] = oracles.utility(sensitivity, specificity, beta)
            decided[row, k] = all(
                oracles.is_decided(ds[c], d) for ds in (positives_of, negatives_of)
            )
    opis_per_class, epsilon_opis = oracles.opis(curves, thresholds, epsilon)

    points = []
    for target in far_targets:
        point = oracles.operating_point(positives, negatives, target)
        if point.resolved:
            limit = point.threshold - oracles.TIE
            point.per_class_far = [
                np.mean([d < limit for d in negatives_of[c]]) for c in classes
            ]
            point.per_class_frr = [
                np.mean([d >= limit for d in positives_of[c]]) for c in classes
            ]
            point.threshold = oracles.from_cosine(point.threshold, distance)
        points.append(point)

    recall, map_at_r = retrieval(
        x, labels, kind, gallery, gallery_labels, own, recall_at
    )
    return SimpleNamespace(
        classes=classes,
        class_counts=[sum(kind.has(a, c) for a in labels) for c in classes],
        num_excluded_classes=len(all_classes) - len(classes),
        calibration_range=calibration_range,
        thresholds=thresholds,
        utility=curves,
        decided=decided,
        opis_per_class=opis_per_class,
        opis=np.mean(opis_per_class),
        epsilon_opis=epsilon_opis,
        eer=oracles.equal_error_rate(positives, negatives),
        recall=recall,
        map_at_r=map_at_r,
        operating_points=points,
        num_positive_pairs=len(positives),
        num_negative_pairs=len(negatives),
    )
