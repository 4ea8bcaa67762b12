"""Losses in float64, from their formulas, as loops: like `oracles`."""

import math

import numpy as np
import oracles
from oracles import (
    cross_entropy,
    flat_labels,
    partners,
    reduce_eligible_rows,
    reduce_rows,
    sigmoid,
    similarities,
    unit_weights,
)

from keras_tcm import losses


def scale_mean(mean, count, reduction):
    return count * mean if reduction == "sum" else mean


def contrastive(
    x, y, w=None, margin=1.0, reduction="sum_over_batch_size", gallery=None
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    sums, weights = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for i in range(len(y)):
        for j in range(len(y)):
            # Rounding must not make two equal vectors look apart.
            distance = math.sqrt(max(2 - 2 * s[i, j], 0.0))
            distance = 0.0 if distance < 1e-7 else distance
            same = y[i] == y[j]
            if (i != j or gallery is not None) and (same or distance < margin):
                error = distance if same else margin - distance
                sums[same] += w[i] * w[j] * error**2 / 2
                weights[same] += w[i] * w[j]
    mean = sum(sums[same] / weights[same] for same in sums if weights[same] > 0)
    return scale_mean(mean, len(y), reduction)


def triplet_margin(
    x,
    y,
    w=None,
    margin=0.2,
    mining="semi_hard",
    reduction="sum_over_batch_size",
    gallery=None,
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    total = count = 0.0
    for a in range(len(y)):
        positives, negatives = partners(y, w, a, gallery)
        if not positives or not negatives:
            continue
        if mining == "batch_hard":
            p = min(positives, key=lambda j: s[a, j])
            n = max(negatives, key=lambda j: s[a, j])
            triplets = [(p, n, w[a])]
        else:
            triplets = [
                (p, n, w[a] * w[p] * w[n]) for p in positives for n in negatives
            ]
        for p, n, weight in triplets:
            # Squared Euclidean distances of unit vectors.
            to_positive, to_negative = 2 - 2 * s[a, p], 2 - 2 * s[a, n]
            if mining == "semi_hard" and to_negative <= to_positive:
                continue
            loss = to_positive - to_negative + margin
            if loss > 0:
                total += weight * loss
                count += weight
    return scale_mean(total / count if count > 0 else 0.0, len(y), reduction)


def recall_at_k(
    x,
    y,
    w=None,
    k=(1, 2, 4, 8, 16),
    temperature=0.01,
    rank_temperature=1.0,
    reduction="sum_over_batch_size",
    gallery=None,
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    rows, eligible = [], []
    for q in range(len(y)):
        positives, negatives = partners(y, w, q, gallery)
        eligible.append(bool(positives))
        row = 0.0
        for each in k if positives else ():
            found = 0.0
            for i in positives:
                rank = 1 + sum(
                    w[j] * sigmoid((s[q, j] - s[q, i]) / temperature)
                    for j in positives + negatives
                    if j != i
                )
                found += w[i] * sigmoid((each - rank) / rank_temperature)
            possible = min(each, sum(w[i] for i in positives))
            row += (1 - min(each, found) / possible) / len(k)
        rows.append(row)
    return reduce_eligible_rows(rows, eligible, w, reduction)


def cos_face(
    cosines, y, w=None, margin=0.35, scale=64.0, reduction="sum_over_batch_size"
):
    y = flat_labels(y)
    rows = []
    for cosine, label in zip(np.asarray(cosines, "float64"), y, strict=True):
        logits = [scale * c for c in cosine]
        logits[label] -= scale * margin
        rows.append(cross_entropy(logits, label))
    return reduce_rows(rows, unit_weights(w, len(y)), reduction)


def proxy_anchor(
    cosines, y, w=None, margin=0.1, scale=32.0, reduction="sum_over_batch_size"
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    c = np.asarray(cosines, "float64")
    pull, push = [], []
    for k in range(c.shape[1]):
        own = [i for i in range(len(y)) if y[i] == k and w[i] > 0]
        others = [i for i in range(len(y)) if y[i] != k and w[i] > 0]
        if own:
            total = sum(w[i] * math.exp(-scale * (c[i, k] - margin)) for i in own)
            pull.append(math.log1p(total))
        total = sum(w[i] * math.exp(scale * (c[i, k] + margin)) for i in others)
        push.append(math.log1p(total))
    mean = sum(pull) / max(len(pull), 1) + sum(push) / len(push)
    return scale_mean(mean, len(y), reduction)


# Every pairwise loss with its reference and options for both.
PAIRWISE_LOSSES = {
    "tcm": (losses.TCM, oracles.tcm, {"positive_margin": 0.6, "negative_margin": 0.1}),
    "multi-similarity": (losses.MultiSimilarity, oracles.multi_similarity, {}),
    "supervised-contrastive": (
        losses.SupervisedContrastive,
        oracles.supervised_contrastive,
        {},
    ),
    "smooth-ap": (losses.SmoothAP, oracles.smooth_ap, {"temperature": 0.1}),
    "contrastive": (losses.Contrastive, contrastive, {}),
    "triplet-batch-hard": (
        losses.TripletMargin,
        triplet_margin,
        {"mining": "batch_hard"},
    ),
    "triplet-semi-hard": (
        losses.TripletMargin,
        triplet_margin,
        {"margin": 0.7},
    ),
    "recall-at-k": (
        losses.RecallAtK,
        recall_at_k,
        {"k": [1, 3], "temperature": 0.1},
    ),
}
