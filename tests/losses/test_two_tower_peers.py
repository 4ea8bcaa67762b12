"""InfoNCE and SigLIP against open_clip and sentence-transformers, on the same numbers.

open_clip needs torchvision, which does not run beside the PyTorch of the other peers:
its values were taken once, in float64, from `ClipLoss` and `SigLipLoss` of its commit
89fb801, and stand below.
"""

import numpy as np
import pytest

from keras_tcm import losses

RANDOM = np.random.RandomState(0)
QUERIES = RANDOM.normal(size=(6, 4))
ITEMS = QUERIES + RANDOM.normal(size=(6, 4))
LABELS = np.arange(6)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# open_clip takes unit vectors.
X = np.stack([unit(QUERIES), unit(ITEMS)], axis=1).astype("float32")

# Loss, value, and gradients of the first query and the first item.
OPEN_CLIP = {
    "ClipLoss": (
        losses.InfoNCE(temperature=1 / 20),
        2.776891181570808,
        (
            (-0.9672962435659638, 0.027215850230134876, -0.5468721463159382),
            (1.462644365, -0.483921787, 0.806321397),
        ),
    ),
    "SigLipLoss": (
        losses.SigLIP(scale=10.0, bias=-5.0),
        4.779457931610002,
        (
            (2.279879394937976, 0.7694028549958778, 0.43279665708192094),
            (3.5232620268339248, -0.5461883606670517, 1.6320058956081398),
        ),
    ),
}


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clip(value_and_grad, name):
    loss, expected, slopes = OPEN_CLIP[name]
    value, gradient = value_and_grad(loss, LABELS, X)
    assert value == pytest.approx(expected, rel=1e-5)
    # Theirs differs by a multiple of the vector, which the first three entries show.
    for found, vector, theirs in zip(gradient[0], X[0], slopes, strict=True):
        difference = np.array(theirs) - found[:3]
        factor = np.dot(difference, vector[:3]) / np.dot(vector[:3], vector[:3])
        np.testing.assert_allclose(difference, factor * vector[:3], atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_symmetric", [False, True])
def test_sentence_transformers(value_and_grad, is_symmetric):
    pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers.sentence_transformer.losses import (
        MultipleNegativesRankingLoss,
    )

    options = {}
    if is_symmetric:
        options = {
            "directions": ("query_to_doc", "doc_to_query"),
            "partition_mode": "per_direction",
        }
    peer = MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0, **options)
    tensors = [
        torch.tensor(each, dtype=torch.float64, requires_grad=True)
        for each in (QUERIES, ITEMS)
    ]
    expected = peer.compute_loss_from_embeddings(tensors, None)
    slopes = torch.autograd.grad(expected, tensors)
    loss = losses.InfoNCE(1 / 20, anchors="both" if is_symmetric else "queries")
    x = np.stack([QUERIES, ITEMS], axis=1).astype("float32")
    value, gradient = value_and_grad(loss, LABELS, x)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(
        gradient, np.stack([x.numpy() for x in slopes], axis=1), atol=1e-5
    )


def test_rows_that_share_a_label_match():
    """Open_clip takes the second picture of a caption for a negative; we do not."""
    labels = np.array([0, 0, 1, 2, 3, 4])
    loss = losses.InfoNCE(0.5)
    found = float(loss(labels, X))
    s = X[:, 0].astype("float64") @ X[:, 1].T.astype("float64") / 0.5
    expected = 0.0
    for side in s, s.T:
        for i in range(6):
            same = np.flatnonzero(labels == labels[i])
            expected += np.log(np.exp(side[i]).sum()) - side[i, same].mean()
    assert found == pytest.approx(expected / 12, rel=1e-5)
    assert found != pytest.approx(float(loss(LABELS, X)), rel=1e-3)
