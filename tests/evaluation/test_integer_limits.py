"""Counts, bins and ranks beyond what small integer types hold."""

import numpy as np
import pytest

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation import recall_at_k
from keras_tcm.evaluation._counting import (
    label_pairs,
    relevance_pairs,
    sampled_pairs,
)
from keras_tcm.evaluation._walk import kernels as numpy_kernels
from keras_tcm.evaluation._walk import pair_walk
from keras_tcm.evaluation._walk import tallies as tally_module
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.tallies import Tally, count_type
from keras_tcm.evaluation.distances import NUM_STEPS, to_steps
from keras_tcm.relevance import ClassRelevance, SharedLabel


def clusters(num_classes=9, size=6, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), size)
    x = rng.normal(size=(num_classes, 8))[y] + rng.normal(size=(len(y), 8))
    return x.astype("float32"), y


X, Y = clusters()


def evaluate(labels=Y, **options):
    return evaluate_embeddings(X, labels, verbose=False, **options)


@pytest.fixture(params=["numpy", "numba"])
def kernels(request, monkeypatch):
    """The kernels, which small sets use as well."""
    if request.param == "numpy":
        return numpy_kernels
    module = pytest.importorskip("keras_tcm.evaluation._walk.kernels_numba")
    monkeypatch.setattr(pair_walk, "_NUMBA_PAIRS", 0)
    return module


# Around the largest uint8 and uint16, and far beyond.
@pytest.mark.parametrize(
    "num_edges", [255, 256, 257, 65_535, 65_536, 65_537, 131_073, 1_000_000]
)
def test_bins(kernels, num_edges):
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (40, 50)).astype("float32")
    nowhere = np.zeros(40, int)
    tile = Tile(values, 0, 40, 0, 50, False, nowhere, nowhere)
    edges = np.linspace(0, NUM_STEPS - 1, num_edges).astype(np.int64)
    assert len(np.unique(edges)) == num_edges
    slots = np.zeros(50, np.int32)
    tally = Tally(edges, slots[:40], slots, 1, np.uint32)
    kernels.count(tile, tally)
    bins = np.searchsorted(edges, to_steps(values).ravel())
    # Each pair counts from both of its ends.
    expected = 2 * np.bincount(bins, minlength=num_edges)
    np.testing.assert_array_equal(tally.table[0, 0], expected)


LAWS = {
    "calibration range": {"calibration_range": (0.2, 1.1)},
    "euclidean": {"calibration_range": (0.5, 1.5), "distance": "euclidean"},
    "far range": {"far_range": (0.05, 0.5)},
    "frr range": {"frr_range": (0.05, 0.5)},
    "gallery": {
        "calibration_range": (0.2, 1.1),
        "gallery_embeddings": X[::2] + 0.1,
        "gallery_labels": Y[::2],
    },
    "matrix": {
        "calibration_range": (0.2, 1.1),
        "relevance": ClassRelevance(np.eye(9)),
    },
}


@pytest.mark.usefixtures("kernels")
# One more than 100 times 655, 656 and 1,000: 65,536 edges lie between the first two.
@pytest.mark.parametrize("num_thresholds", [65_501, 65_601, 100_001])
@pytest.mark.parametrize("options", LAWS.values(), ids=LAWS)
def test_many_thresholds(options, num_thresholds):
    """Some of the many thresholds are those of an evaluation at few."""
    few = evaluate(num_thresholds=101, **options)
    many = evaluate(num_thresholds=num_thresholds, **options)
    some = slice(None, None, (num_thresholds - 1) // 100)
    np.testing.assert_allclose(many.thresholds[some], few.thresholds, atol=1e-12)
    np.testing.assert_array_equal(many.utility[:, some], few.utility)
    assert many.opis == pytest.approx(few.opis, rel=5e-3)
    assert few.opis > 0
    assert len(many.error_rates.thresholds) >= num_thresholds


def test_many_thresholds_and_labels():
    labels = np.eye(9)[Y] + np.eye(9)[(Y + 1) % 9]
    options = {"relevance": SharedLabel(), "calibration_range": (0.2, 1.1)}
    few = evaluate(labels, num_thresholds=101, **options)
    many = evaluate(labels, num_thresholds=70_001, **options)
    np.testing.assert_array_equal(many.utility[:, ::700], few.utility)


def test_many_thresholds_of_a_sample():
    x, y = clusters(20, 20)
    options = {"max_pairs": 30_000, "calibration_range": (0.2, 1.1), "verbose": False}
    few = evaluate_embeddings(x, y, num_thresholds=101, **options)
    many = evaluate_embeddings(x, y, num_thresholds=70_001, **options)
    np.testing.assert_allclose(many.utility[:, ::700], few.utility, atol=1e-9)


def test_many_bins_make_the_strips_of_a_relevance_small(monkeypatch):
    """What is held for each query is bounded, and the counts are the same."""
    options = {"relevance": ClassRelevance(np.eye(9)), "calibration_range": (0.2, 1.1)}
    whole = evaluate(**options)
    sizes = []
    strips = relevance_pairs.strips

    def recording(*args):
        for strip in strips(*args):
            sizes.append(len(strip.steps))
            yield strip

    monkeypatch.setattr(relevance_pairs, "_HELD_PAIRS", 1200)
    monkeypatch.setattr(relevance_pairs, "strips", recording)
    result = evaluate(**options)
    # Over 101 thresholds make over 202 numbers for each query in the second walk.
    assert sizes[0] == 1200 // len(X)
    assert sum(sizes) == 2 * len(X)
    second = sizes[sizes.index(len(X) % sizes[0]) + 1 :]
    assert sum(second) == len(X)
    assert max(second) * 2 * 101 <= 1200
    assert result.to_dict() == whole.to_dict()


def test_type_of_counts():
    assert count_type(2**32 - 1) is np.uint32
    assert np.iinfo(count_type(2**32)).max > 2**62


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("max_pairs", [None, 4000])
def test_counts_beyond_32_bits(max_pairs, monkeypatch):
    """What holds counts past 2^32 goes through all that is done with counts."""
    x, y = clusters(12, 8)
    options = {"max_pairs": max_pairs, "verbose": False, "block_size": 40}
    narrow = evaluate_embeddings(x, y, **options)
    for module in label_pairs, sampled_pairs, tally_module:
        monkeypatch.setattr(module, "count_type", lambda most: count_type(2**32))
    assert evaluate_embeddings(x, y, **options).to_dict() == narrow.to_dict()


@pytest.mark.parametrize("k", [10**3, 2**31, 2**40, 2**70])
@pytest.mark.parametrize("relevance", [None, ClassRelevance(np.eye(9))])
def test_ranks(k, relevance):
    """Every query that has a positive finds it among all samples."""
    result = evaluate(recall_at=(1, k), relevance=relevance)
    assert result.recall == {1: evaluate().recall[1], k: 1.0}
    assert recall_at_k(X, Y, k, relevance) == 1.0
