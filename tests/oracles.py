"""Reference values in float64, written from the definitions as loops over pairs.

Nothing here is fast and nothing here uses the package. Embeddings may have any norm;
a zero vector has similarity 0 to everything. Weights default to one per sample.
"""

import math
from bisect import bisect_left, bisect_right
from types import SimpleNamespace

import numpy as np

# Cosine distances closer than this count as equal in an evaluation.
TIE = 1e-6


def normalize(x):
    """Unit rows; a zero row stays zero, and no norm over- or underflows."""
    unit = np.zeros(np.shape(x), dtype="float64")
    for i, row in enumerate(np.asarray(x, dtype="float64")):
        largest = np.max(np.abs(row))
        if largest > 0:
            row = row / largest
            unit[i] = row / math.sqrt(np.dot(row, row))
    return unit


def similarities(x, gallery=None):
    """Cosine similarity of every row of `x` to every row of `gallery`."""
    rows = normalize(x)
    columns = rows if gallery is None else normalize(gallery)
    matrix = np.zeros((len(rows), len(columns)))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            matrix[i, j] = np.dot(a, b)
    return matrix


def flat_labels(y):
    return list(np.asarray(y).reshape(-1).tolist())


def unit_weights(w, count):
    return np.ones(count) if w is None else np.asarray(w, "float64").reshape(-1)


def finite_differences(function, x, step=1e-6):
    """Central differences of a scalar function of a matrix."""
    x = np.array(x, dtype="float64")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = function(x)
        x[index] = kept - step
        below = function(x)
        x[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def gradient_through_similarities(x, similarity_gradient):
    """Chain rule from d loss / d s_ij (ordered pairs, i != j) to the embeddings."""
    x = np.asarray(x, dtype="float64")
    unit = normalize(x)
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            if i == j:
                continue
            for end, other in ((i, j), (j, i)):
                norm = np.linalg.norm(x[end])
                if norm > 0:
                    s = np.dot(unit[end], unit[other])
                    direction = (unit[other] - s * unit[end]) / norm
                    gradient[end] += similarity_gradient[i, j] * direction
    return gradient


# --------------------------------------------------------------------------- TCM


def tcm_value_and_gradient(
    x,
    y,
    w=None,
    positive_margin=0.9,
    negative_margin=0.5,
    positive_weight=1.0,
    negative_weight=1.0,
):
    """The TCM loss and its gradient with respect to the embeddings."""
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x)
    positive_sum = positive_count = negative_sum = negative_count = 0.0
    for i in range(len(y)):
        for j in range(len(y)):
            # Rounding must not move a similarity past a margin at -1 or 1.
            clipped = min(1.0, max(-1.0, s[i, j]))
            if i == j:
                continue
            if y[i] == y[j] and clipped <= positive_margin:
                positive_sum += w[i] * w[j] * (positive_margin - s[i, j])
                positive_count += w[i] * w[j]
            if y[i] != y[j] and clipped >= negative_margin:
                negative_sum += w[i] * w[j] * (s[i, j] - negative_margin)
                negative_count += w[i] * w[j]

    value = 0.0
    if positive_count > 0:
        value += positive_weight * positive_sum / positive_count
    if negative_count > 0:
        value += negative_weight * negative_sum / negative_count

    slope = np.zeros_like(s)
    for i in range(len(y)):
        for j in range(len(y)):
            clipped = min(1.0, max(-1.0, s[i, j]))
            pair = w[i] * w[j]
            if i == j or pair == 0:
                continue
            if y[i] == y[j] and clipped <= positive_margin:
                slope[i, j] = -positive_weight * pair / positive_count
            if y[i] != y[j] and clipped >= negative_margin:
                slope[i, j] = negative_weight * pair / negative_count
    return value, gradient_through_similarities(x, slope)


def tcm(x, y, w=None, **options):
    return tcm_value_and_gradient(x, y, w, **options)[0]


# ------------------------------------------------------------- losses of anchors


def reduce_rows(rows, w, reduction):
    """Weighted rows to the scalar, as Keras does."""
    total = sum(w[i] * rows[i] for i in range(len(rows)))
    if reduction == "sum":
        return total
    if reduction == "sum_over_batch_size":
        return total / len(rows)
    if reduction == "mean_with_sample_weight":
        return total / sum(w) if sum(w) > 0 else 0.0
    raise ValueError(reduction)


def reduce_eligible_rows(rows, eligible, w, reduction):
    """The mean over eligible anchors, times the factor of the reduction."""
    weight = sum(w[i] for i in range(len(rows)) if eligible[i])
    if weight == 0:
        return 0.0
    mean = sum(w[i] * rows[i] for i in range(len(rows)) if eligible[i]) / weight
    factor = {
        "sum": sum(w),
        "sum_over_batch_size": sum(w) / len(rows),
        "mean_with_sample_weight": 1.0,
    }
    return mean * factor[reduction]


def partners(y, w, i, gallery=None):
    """Indices of the positives and the negatives of anchor i that have a weight.

    With a gallery of as many items, item i is one of them.
    """
    others = [j for j in range(len(y)) if (j != i or gallery is not None) and w[j] > 0]
    positives = [j for j in others if y[j] == y[i]]
    negatives = [j for j in others if y[j] != y[i]]
    return positives, negatives


def multi_similarity(
    x,
    y,
    w=None,
    alpha=2.0,
    beta=50.0,
    base=0.5,
    epsilon=0.1,
    reduction="sum_over_batch_size",
    gallery=None,
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    rows = []
    for i in range(len(y)):
        positives, negatives = partners(y, w, i, gallery)
        kept_positives, kept_negatives = positives, negatives
        if epsilon is not None:
            hardest_negative = max((s[i, j] for j in negatives), default=-math.inf)
            hardest_positive = min((s[i, j] for j in positives), default=math.inf)
            kept_positives = [
                j for j in positives if s[i, j] < hardest_negative + epsilon
            ]
            kept_negatives = [
                j for j in negatives if s[i, j] > hardest_positive - epsilon
            ]
        pull = sum(w[j] * math.exp(-alpha * (s[i, j] - base)) for j in kept_positives)
        push = sum(w[j] * math.exp(beta * (s[i, j] - base)) for j in kept_negatives)
        rows.append(math.log1p(pull) / alpha + math.log1p(push) / beta)
    return reduce_rows(rows, w, reduction)


def supervised_contrastive(
    x, y, w=None, temperature=0.1, reduction="sum_over_batch_size", gallery=None
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    rows, eligible = [], []
    for i in range(len(y)):
        positives, negatives = partners(y, w, i, gallery)
        eligible.append(bool(positives))
        row = 0.0
        if positives:
            # exp(s / temperature) overflows for a small temperature.
            highest = max(s[i, j] for j in positives + negatives)
            total = sum(
                w[j] * math.exp((s[i, j] - highest) / temperature)
                for j in positives + negatives
            )
            for j in positives:
                log_share = (s[i, j] - highest) / temperature - math.log(total)
                row -= w[j] * log_share
            row /= sum(w[j] for j in positives)
        rows.append(row)
    return reduce_eligible_rows(rows, eligible, w, reduction)


def sigmoid(z):
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    return math.exp(z) / (1.0 + math.exp(z))


def smooth_ap(
    x, y, w=None, temperature=0.01, reduction="sum_over_batch_size", gallery=None
):
    """The paper's form: a query is not in its own retrieval set."""
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    rows, eligible = [], []
    for q in range(len(y)):
        positives, negatives = partners(y, w, q, gallery)
        eligible.append(bool(positives))
        precision = weight = 0.0
        for i in positives:
            above = {
                j: w[j] * sigmoid((s[q, j] - s[q, i]) / temperature)
                for j in positives + negatives
                if j != i
            }
            rank_in_positives = 1 + sum(above[j] for j in positives if j != i)
            rank_in_all = 1 + sum(above.values())
            precision += w[i] * rank_in_positives / rank_in_all
            weight += w[i]
        rows.append(1 - precision / weight if positives else 0.0)
    return reduce_eligible_rows(rows, eligible, w, reduction)


def smooth_ap_with_query(x, y, temperature=0.01):
    """The form of the authors' code: the query retrieves itself as a positive."""
    y = flat_labels(y)
    s = similarities(x)
    rows = []
    for q in range(len(y)):
        same = [j for j in range(len(y)) if y[j] == y[q]]
        precision = 0.0
        for i in same:
            rank_in_same = 1 + sum(
                sigmoid((s[q, j] - s[q, i]) / temperature) for j in same if j != i
            )
            rank_in_all = 1 + sum(
                sigmoid((s[q, j] - s[q, i]) / temperature)
                for j in range(len(y))
                if j != i
            )
            precision += rank_in_same / rank_in_all
        rows.append(1 - precision / len(same))
    return sum(rows) / len(rows)


# ------------------------------------------------------------ losses of cosines


def cross_entropy(logits, label):
    highest = max(logits)
    log_total = highest + math.log(sum(math.exp(z - highest) for z in logits))
    return log_total - logits[label]


def normalized_softmax(
    cosines, y, w=None, temperature=0.05, reduction="sum_over_batch_size"
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    rows = []
    for cosine, label in zip(np.asarray(cosines, "float64"), y, strict=True):
        if 0 <= label < len(cosine):
            rows.append(cross_entropy([c / temperature for c in cosine], label))
        else:
            rows.append(math.nan)
    return reduce_rows(rows, w, reduction)


def arcface(
    cosines, y, w=None, margin=0.5, scale=64.0, reduction="sum_over_batch_size"
):
    """Margin in radians; past pi - margin the target falls on linearly in cosine."""
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    rows = []
    for cosine, label in zip(np.asarray(cosines, "float64"), y, strict=True):
        if not 0 <= label < len(cosine):
            rows.append(math.nan)
            continue
        target = min(1.0, max(-1.0, cosine[label]))
        angle = math.acos(target)
        if angle <= math.pi - margin:
            target = math.cos(angle + margin)
        else:
            target = target - margin * math.sin(margin)
        logits = [scale * c for c in cosine]
        logits[label] = scale * target
        rows.append(cross_entropy(logits, label))
    return reduce_rows(rows, w, reduction)


# -------------------------------------------------------------------- evaluation


def to_cosine(distance, kind):
    """A distance of the given kind as a cosine distance 1 - s."""
    return distance if kind == "cosine" else distance**2 / 2


def from_cosine(distance, kind):
    return distance if kind == "cosine" else math.sqrt(max(0.0, 2 * distance))


def all_pairs(x, y, gallery=None, gallery_labels=None, own=()):
    """(cosine distance, label of one end, label of the other end) of every pair.

    Unordered pairs of different samples, or (query, gallery) pairs. `own` tells where
    each query is in the gallery, if it is there: it does not pair with itself.
    """
    pairs = []
    if gallery is None:
        s = similarities(x)
        for i in range(len(y)):
            for j in range(i + 1, len(y)):
                pairs.append((1 - s[i, j], y[i], y[j]))
        return pairs
    s = similarities(x, gallery)
    for i in range(len(y)):
        for j in range(len(gallery_labels)):
            if not (len(own) and own[i] == j):
                pairs.append((1 - s[i, j], y[i], gallery_labels[j]))
    return pairs


def nearest_of_unanswerable(x, y, gallery=None, gallery_labels=None, own=()):
    """Cosine distance to the nearest gallery sample, of each query without a positive.

    By the index of the query.
    """
    if gallery is None:
        gallery, gallery_labels, own = x, y, range(len(x))
    s = similarities(x, gallery)
    nearest = {}
    for i in range(len(y)):
        others = [
            j for j in range(len(gallery_labels)) if not (len(own) and own[i] == j)
        ]
        if not any(gallery_labels[j] == y[i] for j in others):
            nearest[i] = min(1 - s[i, j] for j in others)
    return nearest


def share_within(distances, threshold):
    """Share of sorted cosine distances accepted at a cosine threshold."""
    return bisect_right(distances, threshold + TIE) / len(distances)


def is_decided(distances, threshold):
    """Whether float32 leaves no doubt about which sorted distances are accepted.

    Equal distances are accepted without doubt, distances apart by little more or less
    than the tolerance are not.
    """
    equal = 1e-9
    doubtful = bisect_right(distances, threshold + 2 * TIE)
    doubtful -= bisect_right(distances, threshold + equal)
    doubtful += bisect_left(distances, threshold - equal)
    doubtful -= bisect_left(distances, threshold - TIE / 2)
    return doubtful == 0


def integrate(values, thresholds):
    """Trapezoid rule."""
    total = 0.0
    for k in range(len(thresholds) - 1):
        width = thresholds[k + 1] - thresholds[k]
        total += width * (values[k] + values[k + 1]) / 2
    return total


def utility(sensitivity, specificity, beta):
    if sensitivity == 0 and specificity == 0:
        return 0.0
    return (
        (1 + beta**2)
        * specificity
        * sensitivity
        / (beta**2 * specificity + sensitivity)
    )


def opis(curves, thresholds, epsilon=0.1):
    """OPIS of each class, and epsilon-OPIS, from the utility curves."""
    curves = np.asarray(curves)
    width = thresholds[-1] - thresholds[0]
    mean = curves.mean(axis=0)
    per_class = [integrate((curve - mean) ** 2, thresholds) / width for curve in curves]
    order = sorted(range(len(curves)), key=lambda c: integrate(curves[c], thresholds))
    num_worst = max(1, math.floor(epsilon * len(curves) + 1e-9))
    worst = curves[order[:num_worst]].mean(axis=0)
    rest = curves[order[num_worst:]].mean(axis=0)
    return per_class, integrate((worst - rest) ** 2, thresholds) / width


def equal_error_rate(positives, negatives):
    """(FAR + FRR) / 2 at the first distance with the smallest |FAR - FRR|."""
    positives, negatives = sorted(positives), sorted(negatives)
    best = None
    for d in sorted(positives + negatives):
        accepted = bisect_right(negatives, d + TIE)
        rejected = len(positives) - bisect_right(positives, d + TIE)
        # Compared in integers: rounding must not decide between equal gaps.
        gap = abs(accepted * len(positives) - rejected * len(negatives))
        if best is None or gap < best[0]:
            rate = (accepted / len(negatives) + rejected / len(positives)) / 2
            best = (gap, rate)
    return best[1]


def operating_point(positives, negatives, far_target):
    """Cosine threshold just below the negative that would break the target."""
    negatives = sorted(negatives)
    allowed = math.floor(far_target * len(negatives) + 1e-9)
    unresolved = SimpleNamespace(
        resolved=False, threshold=math.nan, far=math.nan, frr=math.nan
    )
    if allowed < 1:
        return unresolved
    if allowed >= len(negatives):
        return SimpleNamespace(resolved=True, threshold=None, far=1.0, frr=None)
    breaking = negatives[allowed]
    if breaking <= TIE:
        return unresolved
    return SimpleNamespace(
        resolved=True,
        threshold=breaking,
        far=sum(n < breaking - TIE for n in negatives) / len(negatives),
        frr=sum(p >= breaking - TIE for p in positives) / len(positives),
    )


def retrieval(x, y, gallery=None, gallery_labels=None, own=(), ks=(1, 2, 4, 8)):
    """Recall at each k and mAP@R over the queries that have a positive.

    A negative as near as a positive ranks before it.
    """
    no_gallery = gallery is None
    s = similarities(x, gallery)
    columns = y if no_gallery else gallery_labels
    own = range(len(y)) if no_gallery else own
    hits = {k: [] for k in ks}
    precisions = []
    for q in range(len(y)):
        others = [j for j in range(len(columns)) if not (len(own) and own[q] == j)]
        positives = sorted(
            (s[q, j] for j in others if columns[j] == y[q]), reverse=True
        )
        negatives = [s[q, j] for j in others if columns[j] != y[q]]
        if not positives:
            continue
        ranks = [
            place + sum(n >= p - TIE for n in negatives)
            for place, p in enumerate(positives, start=1)
        ]
        for k in ks:
            hits[k].append(ranks[0] <= k)
        within = [rank for rank in ranks if rank <= len(positives)]
        precision = sum((place + 1) / rank for place, rank in enumerate(within))
        precisions.append(precision / len(positives))
    recall = {k: sum(hits[k]) / len(hits[k]) for k in ks}
    return recall, sum(precisions) / len(precisions)


def evaluate(
    x,
    y,
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
    own = range(len(x)) if gallery is x else own
    y = list(y)
    gallery_labels = None if gallery_labels is None else list(gallery_labels)
    pairs = sorted(all_pairs(x, y, gallery, gallery_labels, own), key=lambda p: p[0])
    positives = [d for d, a, b in pairs if a == b]
    negatives = [d for d, a, b in pairs if a != b]

    positives_of, negatives_of = {}, {}
    for label in sorted(set(y)):
        positives_of[label] = [d for d, a, b in pairs if a == b == label]
        if gallery is None:
            negatives_of[label] = [
                d for d, a, b in pairs if (a == label) != (b == label)
            ]
        else:
            negatives_of[label] = [d for d, a, b in pairs if a == label != b]
    classes = [c for c in positives_of if positives_of[c] and negatives_of[c]]

    if calibration_range is None:
        if frr_range is None:
            source, shares = negatives, far_range
        else:
            source, shares = positives, (1 - frr_range[1], 1 - frr_range[0])
        source = [from_cosine(d, distance) for d in source]
        calibration_range = tuple(np.quantile(source, shares))
    low, high = calibration_range
    thresholds = [
        low + (high - low) * k / (num_thresholds - 1) for k in range(num_thresholds)
    ]

    curves = np.zeros((len(classes), num_thresholds))
    decided = np.ones((len(classes), num_thresholds), dtype=bool)
    for c, label in enumerate(classes):
        for k, threshold in enumerate(thresholds):
            d = to_cosine(threshold, distance)
            sensitivity = share_within(positives_of[label], d)
            specificity = 1 - share_within(negatives_of[label], d)
            curves[c, k] = utility(sensitivity, specificity, beta)
            decided[c, k] = is_decided(positives_of[label], d) and is_decided(
                negatives_of[label], d
            )
    opis_per_class, epsilon_opis = opis(curves, thresholds, epsilon)

    points = []
    for target in far_targets:
        point = operating_point(positives, negatives, target)
        point.per_class_far = point.per_class_frr = None
        if point.resolved and point.threshold is not None:
            breaking = point.threshold
            point.per_class_far = [
                sum(n < breaking - TIE for n in negatives_of[c]) / len(negatives_of[c])
                for c in classes
            ]
            point.per_class_frr = [
                sum(p >= breaking - TIE for p in positives_of[c]) / len(positives_of[c])
                for c in classes
            ]
            point.threshold = from_cosine(breaking, distance)
        points.append(point)

    recall, map_at_r = retrieval(x, y, gallery, gallery_labels, own, recall_at)
    return SimpleNamespace(
        classes=classes,
        class_counts=[y.count(c) for c in classes],
        num_excluded_classes=len(set(y)) - len(classes),
        calibration_range=(low, high),
        thresholds=thresholds,
        utility=curves,
        decided=decided,
        opis_per_class=opis_per_class,
        opis=sum(opis_per_class) / len(classes),
        epsilon_opis=epsilon_opis,
        eer=equal_error_rate(positives, negatives),
        recall=recall,
        map_at_r=map_at_r,
        operating_points=points,
        num_positive_pairs=len(positives),
        num_negative_pairs=len(negatives),
    )
