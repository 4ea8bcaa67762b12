"""Losses of two towers in float64: loops over all pairs of a query and an item."""

import math

import loss_references
import numpy as np
import oracles
from oracles import flat_labels, reduce_rows, similarities, unit_weights

from keras_tcm import losses

SIDES = {"both": ((0, 1), (1, 0)), "queries": ((0, 1),), "gallery": ((1, 0),)}


def of_both_sides(one_side):
    """Make a loss of anchors and their gallery one of two towers, `(batch, 2, d)`."""

    def loss(x, y, w=None, anchors="both", **options):
        values = [
            one_side(x[:, side], y, w, gallery=x[:, other], **options)
            for side, other in SIDES[anchors]
        ]
        return sum(values) / len(values)

    return loss


def tcm(
    x,
    y,
    w=None,
    positive_margin=0.9,
    negative_margin=0.5,
    positive_weight=1.0,
    negative_weight=1.0,
    reduction=None,
    gallery=None,
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    sums, weights = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for i in range(len(y)):
        for j in range(len(y)):
            same = y[i] == y[j]
            error = positive_margin - s[i, j] if same else s[i, j] - negative_margin
            if error >= 0:
                sums[same] += w[i] * w[j] * error
                weights[same] += w[i] * w[j]
    factors = {True: positive_weight, False: negative_weight}
    mean = sum(factors[x] * sums[x] / weights[x] for x in sums if weights[x] > 0)
    return loss_references.scale_mean(mean, len(y), reduction)


def sig_lip(
    x,
    y,
    w=None,
    scale=10.0,
    bias=-10.0,
    reduction="sum_over_batch_size",
    gallery=None,
):
    y = flat_labels(y)
    w = unit_weights(w, len(y))
    s = similarities(x, gallery)
    rows = []
    for i in range(len(y)):
        row = 0.0
        for j in range(len(y)):
            if i == j and gallery is None:
                continue
            z = 1.0 if y[i] == y[j] else -1.0
            row += w[j] * math.log1p(math.exp(-z * (scale * s[i, j] + bias)))
        rows.append(row)
    return reduce_rows(rows, w, reduction)


def info_nce(x, y, w=None, temperature=0.07, **options):
    return oracles.supervised_contrastive(x, y, w, temperature, **options)


def learned(loss, read):
    """A loss whose options are read off the lengths of the vectors."""

    def of_lengths(x, y, w=None, **options):
        x = np.asarray(x, "float64")
        lengths = np.linalg.norm(x, axis=-1).mean(axis=0)
        return loss(x, y, w, **read(*lengths), **options)

    return of_lengths


# Every pairwise loss with its reference and options for both.
TWO_TOWER_LOSSES = {
    name: (loss, of_both_sides(tcm if name == "tcm" else reference), options)
    for name, (loss, reference, options) in loss_references.PAIRWISE_LOSSES.items()
} | {
    "triplet-all": (
        losses.TripletMargin,
        of_both_sides(loss_references.triplet_margin),
        {"mining": "all"},
    ),
    "info-nce": (losses.InfoNCE, of_both_sides(info_nce), {}),
    "info-nce-warm": (losses.InfoNCE, of_both_sides(info_nce), {"temperature": 0.5}),
    "sig-lip": (losses.SigLIP, of_both_sides(sig_lip), {}),
    "sig-lip-options": (
        losses.SigLIP,
        of_both_sides(sig_lip),
        {"scale": 4.0, "bias": -1.0},
    ),
}
