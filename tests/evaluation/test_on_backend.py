"""Pairs that are counted where the backend computes them: the counts of the host."""

import concurrent.futures
import json

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import keras_tcm
from keras_tcm import ScoreNormalization, choose_threshold, evaluate_embeddings
from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk import counter_on_backend, pair_walk
from keras_tcm.evaluation._walk import device as devices
from keras_tcm.evaluation._walk.counter_on_backend import CounterOnBackend
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.tallies import Tally
from keras_tcm.evaluation.distances import NUM_STEPS
from keras_tcm.relevance import HierarchyLevel


def samples(sizes, seed, dim=12):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(sizes), dim))[labels] + rng.normal(size=(len(labels), dim))
    order = rng.permutation(len(labels))
    return x[order].astype("float32"), labels[order]


# One class with many samples, two with one.
SIZES = [150, 1, 1, *np.random.default_rng(0).poisson(5, 60) + 2]
X, Y = samples(SIZES, 1)
OTHERS = samples(SIZES, 2)
GALLERY = {"gallery_embeddings": OTHERS[0], "gallery_labels": OTHERS[1]}
# Few distances, each of many pairs: everything is tied.
TIED = np.sign(X[:, :3]) * [1, 1, 2]
# Column 1 of these labels has the classes.
LEVELS = np.stack([Y, Y % 7], axis=1)

CASES = {
    "itself": (X, Y, {}),
    "small blocks": (X, Y, {"block_size": 61}),
    "a gallery": (X, Y, GALLERY),
    "a gallery in blocks": (X, Y, GALLERY | {"block_size": 100}),
    "queries in the gallery": (
        *(X[::3], Y[::3]),
        {
            "gallery_embeddings": X,
            "gallery_labels": Y,
            "gallery_includes_queries": True,
        },
    ),
    "two towers": (np.stack([X, X[:, ::-1]], axis=1), Y, {}),
    "unanswerable queries": (
        *(X, Y),
        {"gallery_embeddings": X[Y > 5] + 0.1, "gallery_labels": Y[Y > 5]},
    ),
    "ties": (TIED, Y, {"calibration_range": (0.1, 0.6)}),
    "vectors without length": (np.where(Y[:, None] < 4, 0, X), Y, {}),
    "euclidean": (X, Y, {"distance": "euclidean", "frr_range": (0.1, 0.4)}),
    "every pair": (X, Y, {"far_range": (0.01, 1.0), "far_targets": (1.0,)}),
    "thresholds": (X, Y, {"at_thresholds": (0.1, 0.5, 1.0, 2.0)}),
    "shifted scores": (X, Y, {"score_normalization": ScoreNormalization(X[:200])}),
    "as-norm": (
        *(X, Y),
        {"score_normalization": ScoreNormalization(X[:200], 20, method="as_norm")},
    ),
    "a level": (X, LEVELS, {"relevance": HierarchyLevel(1)}),
    "groups": (X, Y, {"groups": Y % 3}),
    "groups at one end": (X, Y, {"groups": Y % 3, "group_pairs": "one_end"}),
    "a sample": (X, Y, {"max_pairs": 60_000}),
    "a sample with a gallery": (X, Y, GALLERY | {"max_pairs": 80_000}),
}


def as_text(result):
    """All that was found, so that NaN equals NaN."""
    return json.dumps(result.to_dict(), default=str)


def both(function):
    """What the host counts, and what the backend does."""
    return [as_text(function(device=device)) for device in ("host", "backend")]


@pytest.mark.parametrize("case", CASES)
def test_evaluation(case):
    x, y, options = CASES[case]
    host, backend = both(
        lambda device: evaluate_embeddings(
            x, y, device=device, verbose=False, **options
        )
    )
    assert host == backend


@pytest.mark.parametrize("options", [{}, GALLERY], ids=["itself", "gallery"])
class TestWalks:
    def test_parts(self, options):
        with concurrent.futures.ThreadPoolExecutor(2) as client:
            host, backend = both(
                lambda device: evaluate_embeddings(
                    X, Y, device=device, client=client, block_size=64, **options
                )
            )
        assert host == backend

    def test_positives_in_groups(self, options, monkeypatch):
        """Ranks of some queries at a time, in walks without counts."""
        monkeypatch.setattr(label_pairs, "MAX_HELD", 5000)
        host, backend = both(
            lambda device: evaluate_embeddings(X, Y, device=device, **options)
        )
        assert host == backend

    def test_bins_that_are_read_off(self, options, monkeypatch):
        monkeypatch.setattr(label_pairs, "_MAX_ERROR", 1.0)
        host, backend = both(
            lambda device: evaluate_embeddings(X, Y, device=device, **options)
        )
        assert host == backend

    def test_counts_beyond_the_low_bits(self, options, monkeypatch):
        monkeypatch.setattr(counter_on_backend, "_CARRY_BITS", 2)
        monkeypatch.setattr(counter_on_backend, "_CARRIED_PAIRS", 1)
        # Programs made with other constants.
        counter_on_backend._carry.cache_clear()
        host, backend = both(
            lambda device: evaluate_embeddings(
                X, Y, device=device, block_size=200, **options
            )
        )
        counter_on_backend._carry.cache_clear()
        assert host == backend

    def test_threshold(self, options):
        host, backend = both(
            lambda device: choose_threshold(
                X, Y, far=0.05, confidence=0.8, device=device, **options
            )
        )
        assert host == backend


def test_check_of_a_threshold():
    threshold = choose_threshold(X, Y, far=0.05, confidence=0.8)
    host, backend = (
        str(vars(threshold.check(*OTHERS, device=device)))
        for device in ("host", "backend")
    )
    assert host == backend


@pytest.fixture
def on_gpu(monkeypatch):
    """As on a machine with a GPU, though it is a CPU: the walks that are counted so."""
    walks = []

    class Recorded(CounterOnBackend):
        def __init__(self, *args):
            walks.append(args)
            super().__init__(*args)

    monkeypatch.setattr(counter_on_backend, "CounterOnBackend", Recorded)
    monkeypatch.setattr(devices._backend(), "is_gpu", lambda: True)
    monkeypatch.setattr(devices._backend(), "free_bytes", lambda: None)
    return walks


def test_a_gpu_counts_unless_told_otherwise(on_gpu):
    evaluate_embeddings(X, Y, device="host")
    assert not on_gpu
    evaluate_embeddings(X, Y)
    assert on_gpu


def test_no_gpu_no_choice():
    assert not devices.counts_on_backend("auto")
    assert devices.counts_on_backend("backend")
    assert not devices.counts_on_backend("host")


def test_metric_and_callback(on_gpu):
    metric = keras_tcm.metrics.OPIS()
    metric.update_state(Y, X)
    assert float(metric.result()) == pytest.approx(
        evaluate_embeddings(X, Y, device="host").opis, rel=1e-6
    )
    assert len(on_gpu) > 0
    walks = len(on_gpu)
    inputs = keras.Input((X.shape[1],))
    model = keras.Model(inputs, keras.layers.UnitNormalization()(inputs))
    callback = RetrievalEvaluation(X, Y, verbose=False)
    callback.set_model(model)
    logs = {}
    callback.on_epoch_end(0, logs)
    assert len(on_gpu) > walks
    assert logs["val_opis"] == pytest.approx(float(metric.result()), rel=1e-4)


class TestMemory:
    def test_tiles_as_large_as_the_device_bears(self, on_gpu, monkeypatch):
        sides = {}
        for free in (None, 2**22, 2**31, 2**40):
            monkeypatch.setattr(
                devices._backend(), "free_bytes", lambda free=free: free
            )
            sides[free] = pair_walk.longest_side("auto")
        assert sides[None] == pair_walk.longest_side("host") == 2048
        assert sides[2**22] == 256
        # A quarter of 2 GiB, at 40 bytes a pair.
        assert sides[2**31] == 3663
        assert sides[2**40] == 8192

    def test_counts_that_do_not_fit_are_counted_on_the_host(self, on_gpu, monkeypatch):
        expected = as_text(evaluate_embeddings(X, Y))
        assert len(on_gpu) > 0
        monkeypatch.setattr(devices._backend(), "free_bytes", lambda: 2**20)
        # The same tiles: products of others may round otherwise.
        monkeypatch.setattr(pair_walk, "longest_side", lambda device: 2048)
        walks = len(on_gpu)
        assert as_text(evaluate_embeddings(X, Y)) == expected
        assert len(on_gpu) == walks

    def test_counts_and_places_have_32_bits(self):
        tally = Tally(np.array([10, 20]), None, None, 1, np.uint32)
        assert counter_on_backend.fits(tally, (2**14, 2**15))
        assert not counter_on_backend.fits(tally, (2**15, 2**15))
        tally.table = np.broadcast_to(np.uint32(0), (1, 2**20, 2**11))
        assert not counter_on_backend.fits(tally, (1, 1))


def test_steps_and_cuts_by_hand():
    """Similarities 1, 0.5, 0 and -1 are 0, 1/2, 1 and 2 units of 2^21 steps away."""
    one = 2**21
    edges = np.array([0, one // 2, one, NUM_STEPS - 1])
    slots = np.arange(2, dtype=np.int32)
    tally = Tally(edges, slots, None, 2, np.uint32)
    values = to_tensor(np.array([[1, 0.5, 0, -1], [0.5, 0.5, 1, 1]], "float32"), 2)
    # The first column is of the class of the second row.
    first, last = np.array([0, 0]), np.array([0, 1])
    with CounterOnBackend(tally, None, None) as counter:
        counter.add(Tile(values, 0, 2, 0, 4, False, first, last))
    assert_array_equal(tally.table[0, :2], [[1, 1, 1, 1], [2, 1, 0, 0]])
    found = np.flatnonzero(tally.histogram[0])
    assert_array_equal(found, [0, one // 2, one, 2 * one])
    assert_array_equal(tally.histogram[0, found], [3, 2, 1, 1])


def test_an_error_is_raised_and_nothing_counted():
    tally = Tally(np.array([10, 20]), None, None, 1, np.uint32)
    counter = CounterOnBackend(tally, None, None)
    with pytest.raises(RuntimeError, match="of mine"), counter:
        raise RuntimeError("of mine")
    assert not tally.histogram.any()


@pytest.mark.parametrize("function", [evaluate_embeddings, choose_threshold])
def test_devices_that_there_are_not(function):
    options = {"far": 0.1} if function is choose_threshold else {}
    with pytest.raises(ValueError, match=r"`device` must be .*'gpu'"):
        function(X, Y, device="gpu", **options)
