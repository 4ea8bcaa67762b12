"""What can be said of gathering on one device."""

import keras
import numpy as np
import pytest

from keras_tcm import distribution, losses
from keras_tcm.ops.log_sum_exp import log_one_plus_sum_exp, merge_log_one_plus

BACKEND = keras.backend.backend()
NAMES = [
    "TCM",
    "MultiSimilarity",
    "SmoothAP",
    "RecallAtK",
    "SupervisedContrastive",
    "Contrastive",
    "TripletMargin",
    "ArcFace",
    "CosFace",
    "NormalizedSoftmax",
    "ProxyAnchor",
]


@pytest.mark.parametrize("name", NAMES)
def test_config(name):
    for gather in True, False:
        loss = getattr(losses, name)(gather=gather)
        config = keras.losses.serialize(loss)
        assert keras.losses.deserialize(config).gather is gather
    # Saved by an earlier version.
    del config["config"]["gather"]
    assert keras.losses.deserialize(config).gather is True
    with pytest.raises(ValueError, match="`gather` must be one of"):
        getattr(losses, name)(gather="yes")


def test_a_sum_gathers_for_other_losses_if_one_of_ours_does():
    circle = keras.losses.Circle()
    assert (circle + losses.TCM()).gather
    assert not (circle + losses.TCM(gather=False)).gather
    mixed = losses.MultiSimilarity() + losses.TCM(gather=False) + circle
    assert mixed.gather
    copy = keras.losses.deserialize(keras.losses.serialize(mixed))
    assert [loss.gather for loss in copy.losses[:2]] == [True, False]


def test_terms_that_gather_and_terms_that_do_not():
    """On one device there is no difference."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)).astype("float32"), rng.integers(4, size=20)
    one = losses.MultiSimilarity() + losses.TCM(gather=False)
    expected = float(losses.MultiSimilarity()(y, x)) + float(losses.TCM()(y, x))
    assert float(one(y, x)) == pytest.approx(expected, rel=1e-6)


def test_one_device_has_no_replicas():
    assert distribution.active_replicas(keras.ops.ones(3)) is None
    assert distribution.active_replicas(keras.KerasTensor((3,))) is None


@pytest.mark.parametrize("scale", [1e-4, 1.0, 50.0])
def test_merged_log_sums_are_those_of_all(scale):
    rng = np.random.default_rng(0)
    exponents = scale * rng.normal(size=(3, 5, 7)).astype("float32")
    weights = rng.uniform(size=(3, 5, 7)) * (rng.uniform(size=(3, 5, 1)) > 0.3)
    weights = weights.astype("float32")
    # Where a part has nothing, and where none has.
    weights[:, 0] = 0
    tensors = map(keras.ops.convert_to_tensor, (exponents, weights))
    parts = log_one_plus_sum_exp(*tensors)
    merged = keras.ops.convert_to_numpy(merge_log_one_plus(parts))
    expected = np.log1p((weights * np.exp(exponents.astype("float64"))).sum((0, 2)))
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)


def test_data_parallel_changes_nothing_in_a_single_process():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    if BACKEND != "torch":
        with pytest.raises(RuntimeError, match=r"for the backend 'torch'.*Received"):
            distribution.data_parallel(model)
        return
    before = set(vars(model))
    assert distribution.data_parallel(model) is model
    assert set(vars(model)) == before


@pytest.mark.skipif(BACKEND != "torch", reason="data_parallel is for torch")
def test_data_parallel_wants_a_built_model():
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        distribution.data_parallel("resnet")
    with pytest.raises(ValueError, match="`model` must be built"):
        distribution.data_parallel(keras.Sequential([keras.layers.Dense(2)]))
