"""Losses of pytorch-metric-learning in Keras, against the package itself."""

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm import TCM
from keras_tcm.interop.pytorch_metric_learning import as_keras_loss

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.filterwarnings(
    # HistogramLoss indexes in a way that torch deprecates.
    "ignore:Using a non-tuple sequence for multidimensional:UserWarning"
)
LOSSES = {
    "AngularLoss": {},
    "CircleLoss": {"gamma": 10},
    "ContrastiveLoss": {},
    "FastAPLoss": {},
    "GeneralizedLiftedStructureLoss": {},
    "HistogramLoss": {"n_bins": 10},
    "InstanceLoss": {"gamma": 4},
    "IntraPairVarianceLoss": {},
    "LiftedStructureLoss": {},
    "MarginLoss": {},
    "MultiSimilarityLoss": {},
    "NCALoss": {},
    "NPairsLoss": {},
    "NTXentLoss": {},
    "PNPLoss": {"anneal": 0.1},
    "RankedListLoss": {"margin": 0.4, "Tn": 1},
    "SignalToNoiseRatioContrastiveLoss": {},
    "SmoothAPLoss": {"temperature": 0.1},
    "SupConLoss": {},
    "ThresholdConsistentMarginLoss": {},
    "TripletMarginLoss": {"margin": 0.3},
    "TupletMarginLoss": {},
}
with_every_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def miners(peers):
    import pytorch_metric_learning.miners

    return pytorch_metric_learning.miners


@pytest.fixture
def sorted_labels(labels):
    """Some of the peer's losses need equal classes in order."""
    return np.sort(labels)


def direct(loss, labels, embeddings, miner=None):
    """The peer's own value and gradient, without Keras around it."""
    import torch

    x = torch.tensor(embeddings, requires_grad=True)
    y = torch.tensor(labels)
    value = loss(x, y) if miner is None else loss(x, y, miner(x, y))
    value.backward()
    return value.item(), x.grad.numpy()


def check_against_the_peer(adapted, value_and_grad, labels, embeddings):
    expected, expected_gradient = direct(
        adapted.loss, labels, embeddings, adapted.miner
    )
    value, gradient = value_and_grad(adapted, labels, embeddings)
    assert value == pytest.approx(expected, rel=1e-6)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-6 * scale)
    assert scale > 0


# --------------------------------------------------------------------------- the values


@with_every_loss
def test_value_and_gradient(peers, value_and_grad, sorted_labels, unit_vectors, name):
    adapted = as_keras_loss(getattr(peers, name)(**LOSSES[name]))
    # The norms matter to a loss that does not normalise.
    check_against_the_peer(adapted, value_and_grad, sorted_labels, 3 * unit_vectors)


@pytest.mark.parametrize(
    "miner", ["BatchHardMiner", "MultiSimilarityMiner", "TripletMarginMiner"]
)
def test_miner(peers, miners, value_and_grad, labels, unit_vectors, miner):
    miner = getattr(miners, miner)()
    adapted = as_keras_loss(peers.MultiSimilarityLoss(), miner)
    check_against_the_peer(adapted, value_and_grad, labels, unit_vectors)
    unmined = as_keras_loss(peers.MultiSimilarityLoss())
    values = [float(loss(labels, unit_vectors)) for loss in (adapted, unmined)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_miner_of_multi_similarity_makes_the_loss_ours(
    peers, miners, labels, unit_vectors
):
    miner = miners.MultiSimilarityMiner(0.1)
    theirs = as_keras_loss(peers.MultiSimilarityLoss(), miner)(labels, unit_vectors)
    ours = keras_tcm.losses.MultiSimilarity()(labels, unit_vectors)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_several_losses(peers, miners, value_and_grad, labels, unit_vectors):
    several = peers.MultipleLosses(
        [peers.TripletMarginLoss(), peers.NTXentLoss()],
        miners=[miners.BatchHardMiner(), None],
        weights=[1, 0.5],
    )
    check_against_the_peer(as_keras_loss(several), value_and_grad, labels, unit_vectors)


def test_reducer(peers, value_and_grad, labels, unit_vectors):
    from pytorch_metric_learning import reducers

    loss = peers.TripletMarginLoss(margin=0.3, reducer=reducers.SumReducer())
    check_against_the_peer(as_keras_loss(loss), value_and_grad, labels, unit_vectors)


def test_frozen_parameters_are_constants(peers, value_and_grad, labels, unit_vectors):
    loss = peers.ProxyAnchorLoss(num_classes=3, embedding_size=5).requires_grad_(False)
    check_against_the_peer(as_keras_loss(loss), value_and_grad, labels, unit_vectors)


def test_without_pairs(peers, value_and_grad, unit_vectors):
    adapted = as_keras_loss(peers.TripletMarginLoss())
    value, gradient = value_and_grad(adapted, np.arange(12), unit_vectors)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((12, 5)))


def test_rows_have_the_value_as_their_mean(peers, labels, unit_vectors):
    adapted = as_keras_loss(peers.NTXentLoss())
    rows = adapted.call(labels, unit_vectors).numpy()
    assert rows.shape == (12,)
    np.testing.assert_allclose(rows, float(adapted(labels, unit_vectors)), rtol=1e-6)


def test_maths_is_in_float32(peers, value_and_grad, labels, unit_vectors):
    loss = peers.MultiSimilarityLoss()
    rounded = keras.ops.cast(keras.ops.cast(unit_vectors, "bfloat16"), "float32")
    expected, _ = direct(loss, labels, keras.ops.convert_to_numpy(rounded))
    value, _ = value_and_grad(
        as_keras_loss(loss), labels, unit_vectors, dtype="bfloat16"
    )
    assert value == pytest.approx(expected, rel=1e-6)


def test_labels_are_compared_as_integers(peers, labels, unit_vectors):
    adapted = as_keras_loss(peers.NTXentLoss())
    expected = float(adapted(labels, unit_vectors))
    # In float32, which has no odd numbers there, two of the three would be one.
    assert float(adapted(labels + 2**25, unit_vectors)) == expected
    assert float(adapted(labels[:, None].astype("int32"), unit_vectors)) == expected


# ----------------------------------------------------------------------------- training


@with_every_loss
def test_trains_alone_and_with_tcm(
    peers, small_model, features, sorted_labels, labels, name
):
    features = features[np.argsort(labels, kind="stable")]
    loss = getattr(peers, name)(**LOSSES[name])
    model = small_model("alone", "sum")
    model.compile(
        keras.optimizers.Adam(0.02),
        loss={
            "alone": as_keras_loss(loss),
            "sum": as_keras_loss(loss) + 0.5 * TCM(),
        },
    )
    targets = {"alone": sorted_labels, "sum": sorted_labels}
    options = {"batch_size": 12, "verbose": 0}
    history = model.fit(features, targets, epochs=15, shuffle=False, **options).history
    for output in targets:
        assert history[f"{output}_loss"][-1] < history[f"{output}_loss"][0]

    logs = model.evaluate(features, targets, return_dict=True, **options)
    embeddings = model.predict(features, verbose=0)["alone"]
    expected, _ = direct(loss, sorted_labels, embeddings)
    assert logs["alone_loss"] == pytest.approx(expected, rel=1e-5)
    expected += 0.5 * float(TCM()(sorted_labels, embeddings))
    assert logs["sum_loss"] == pytest.approx(expected, rel=1e-5)


def test_trains_with_a_miner(peers, miners, small_model, features, labels):
    model = small_model()
    base = as_keras_loss(peers.TripletMarginLoss(), miners.BatchHardMiner())
    model.compile(keras.optimizers.Adam(0.02), loss=base + TCM())
    history = model.fit(features, labels, batch_size=12, epochs=15, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_under_torch_compile(
    peers, torch_compiler, value_and_grad, labels, unit_vectors
):
    adapted = as_keras_loss(peers.ContrastiveLoss())
    # The numbers of pairs differ, which the compiler must not see.
    for batch in labels, np.sort(labels) // 2:
        eager = value_and_grad(adapted, batch, unit_vectors)
        compiled = value_and_grad(adapted, batch, unit_vectors, jit=True)
        assert compiled[0] == pytest.approx(eager[0], rel=1e-6)
        np.testing.assert_allclose(compiled[1], eager[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("with_tcm", [False, True])
def test_memory_holds_what_the_model_embeds(
    peers, small_model, features, labels, with_tcm
):
    memory = peers.CrossBatchMemory(peers.NTXentLoss(), 4, memory_size=24)
    loss = as_keras_loss(memory)
    model = small_model()
    model.compile(keras.optimizers.SGD(0.0), loss=loss + TCM() if with_tcm else loss)
    model.fit(features, labels, batch_size=12, shuffle=False, verbose=0)
    assert memory.queue_idx == 12
    assert not memory.has_been_filled
    np.testing.assert_allclose(
        memory.embedding_memory[:12].numpy(),
        model.predict(features, verbose=0),
        atol=1e-6,
    )
    np.testing.assert_array_equal(memory.label_memory[:12].numpy(), labels)


# ------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("with_tcm", [False, True])
def test_saved_model(peers, small_model, features, labels, tmp_path, with_tcm):
    loss = as_keras_loss(peers.TripletMarginLoss(margin=0.5))
    loss = loss + TCM() if with_tcm else loss
    model = small_model()
    model.compile("adam", loss=loss)
    model.fit(features, labels, batch_size=12, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # Saving what was loaded loses nothing more.
    loaded.save(tmp_path / "again.keras")
    loaded = keras.saving.load_model(tmp_path / "again.keras")
    expected = model.predict(features, verbose=0)
    np.testing.assert_allclose(loaded.predict(features, verbose=0), expected, rtol=1e-6)
    with pytest.raises(
        RuntimeError, match=r"TripletMarginLoss.*Compile the model again"
    ):
        loaded.fit(features, labels, batch_size=12, verbose=0)

    loaded.compile(loaded.optimizer, loss=loss)
    for each in model, loaded:
        each.fit(features, labels, batch_size=12, shuffle=False, verbose=0)
        assert int(each.optimizer.iterations) == 4
    np.testing.assert_allclose(
        loaded.predict(features, verbose=0),
        model.predict(features, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )


def test_model_saved_on_torch_loads_on_every_backend(small_model, features, labels):
    config = {
        "class_name": "PyTorchMetricLearningLoss",
        "registered_name": "keras_tcm>PyTorchMetricLearningLoss",
        "config": {"name": "NTXentLoss", "dtype": "float32"},
    }
    loss = keras.saving.deserialize_keras_object(config)
    assert loss.get_config() == {**config["config"], "gather": True}
    model = small_model()
    model.compile("adam", loss=loss + TCM(), jit_compile=False)
    assert model.predict(features, verbose=0).shape == (12, 4)
    with pytest.raises(RuntimeError, match=r"NTXentLoss.*Compile the model again"):
        model.evaluate(features, labels, verbose=0)


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ArcFaceLoss", {"num_classes": 3, "embedding_size": 5}),
        ("ProxyAnchorLoss", {"num_classes": 3, "embedding_size": 5}),
        ("SoftTripleLoss", {"num_classes": 3, "embedding_size": 5}),
        ("MarginLoss", {"learn_beta": True}),
    ],
)
def test_parameters(peers, name, options):
    loss = getattr(peers, name)(**options)
    several = peers.MultipleLosses([peers.NTXentLoss(), loss])
    for wrong in loss, several:
        with pytest.raises(
            ValueError, match=r"(?s)CosineClassifier.*ArcFace.*Received"
        ):
            as_keras_loss(wrong)


def test_not_such_a_loss(peers, miners):
    import torch

    for wrong in (
        keras.losses.Circle(),
        TCM(),
        torch.nn.MSELoss(),
        peers.TripletMarginLoss,
        miners.BatchHardMiner(),
        peers.VICRegLoss(),
        peers.SelfSupervisedLoss(peers.NTXentLoss()),
        None,
    ):
        with pytest.raises(TypeError, match=r"(?s)`loss` must be a loss of.*Received"):
            as_keras_loss(wrong)


def test_not_a_miner(peers, miners):
    for wrong in miners.BatchHardMiner, peers.NTXentLoss(), "hard":
        with pytest.raises(
            TypeError, match=r"(?s)`miner` must be a miner of.*Received"
        ):
            as_keras_loss(peers.TripletMarginLoss(), wrong)


def test_sample_weight(peers, small_model, features, labels, unit_vectors):
    loss = as_keras_loss(peers.TripletMarginLoss())
    message = r"(?s)`sample_weight` must be None.*own.*Received.*TripletMarginLoss"
    for each in loss, loss + TCM():
        with pytest.raises(ValueError, match=message):
            each(labels, unit_vectors, sample_weight=np.ones(12))

    # The way out that the message names.
    model = small_model("base", "tcm")
    model.compile("adam", loss={"base": loss, "tcm": TCM()})
    targets = {"base": labels, "tcm": labels}
    weights = {"base": None, "tcm": np.linspace(0, 1, 12)}
    model.fit(features, targets, batch_size=12, sample_weight=weights, verbose=0)


def test_reducer_that_does_not_reduce(peers, labels, unit_vectors):
    from pytorch_metric_learning.reducers import DoNothingReducer

    loss = as_keras_loss(peers.TripletMarginLoss(reducer=DoNothingReducer()))
    with pytest.raises(TypeError, match=r"(?s)`loss` must have a reducer.*Received"):
        loss(labels, unit_vectors)


@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere the backend is wrong")
def test_not_installed(hide_package):
    hide_package("pytorch_metric_learning")
    with pytest.raises(ImportError, match=r'pip install "keras-tcm\[pml\]"'):
        as_keras_loss(None)


@pytest.mark.skipif(BACKEND == "torch", reason="here the backend is right")
def test_wrong_backend():
    message = rf"(?s)pytorch-metric-learning need.*Received: .*'{BACKEND}'"
    with pytest.raises(RuntimeError, match=message):
        as_keras_loss(None)
