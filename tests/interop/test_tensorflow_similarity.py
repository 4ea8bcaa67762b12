"""Losses of tensorflow-similarity in Keras, against the package itself."""

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm import TCM
from keras_tcm.interop.tensorflow_similarity import as_keras_loss

BACKEND = keras.backend.backend()
LOSSES = {
    "MultiSimilarityLoss": {},
    "TripletLoss": {"margin": 0.4},
    "CircleLoss": {"gamma": 10.0},
    "PNLoss": {},
    "SoftNearestNeighborLoss": {},
}
with_every_loss = pytest.mark.parametrize("name", LOSSES)
with_and_without_jit = pytest.mark.parametrize("jit", [False, True], ids=["", "jit"])


def peer_loss(tfsim, kind="MultiSimilarityLoss", **options):
    options = {"reduction": "sum_over_batch_size", **LOSSES.get(kind, {}), **options}
    return getattr(tfsim.losses, kind)(**options)


def eager(peer, labels, embeddings):
    """The peer's own value and gradient, without Keras around it."""
    import tensorflow as tf

    x = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_mean(peer.call(tf.constant(labels)[:, None], x))
    return float(value), tape.gradient(value, x).numpy()


# --------------------------------------------------------------------------- the values


@with_and_without_jit
@with_every_loss
def test_value_and_gradient(tfsim, value_and_grad, labels, unit_vectors, name, jit):
    peer = peer_loss(tfsim, name)
    expected, expected_gradient = eager(peer, labels, unit_vectors)
    value, gradient = value_and_grad(as_keras_loss(peer), labels, unit_vectors, jit=jit)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sql2", "manhattan"])
@with_every_loss
def test_graph_has_no_calls(tfsim, labels, unit_vectors, name, distance):
    # XLA takes the arguments of some calls for constants: it would compile a step anew
    # for every batch.
    import tensorflow as tf

    loss = as_keras_loss(peer_loss(tfsim, name, distance=distance))

    @tf.function
    def gradient(y, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, x)
        return tape.gradient(value, x)

    graph = gradient.get_concrete_function(labels, tf.constant(unit_vectors)).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds or distance == "manhattan"
    assert not {kind for kind in kinds if "PartitionedCall" in kind}


@with_every_loss
def test_maths_is_in_float32(tfsim, value_and_grad, labels, unit_vectors, name):
    peer = peer_loss(tfsim, name)
    rounded = keras.ops.cast(keras.ops.cast(unit_vectors, "bfloat16"), "float32")
    expected, _ = eager(peer, labels, keras.ops.convert_to_numpy(rounded))
    loss = as_keras_loss(peer)
    value, _ = value_and_grad(loss, labels, unit_vectors, dtype="bfloat16")
    assert value == pytest.approx(expected, rel=1e-6)


def test_labels_are_compared_as_integers(tfsim, labels, unit_vectors):
    loss = as_keras_loss(peer_loss(tfsim))
    expected = float(loss(labels, unit_vectors))
    # In float32, which has no odd numbers there, two of the three would be one.
    assert float(loss(labels + 2**25, unit_vectors)) == expected
    assert float(loss(labels[:, None], unit_vectors)) == expected


@pytest.mark.parametrize(
    "reduction",
    ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None],
)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_reduction_and_weights(tfsim, labels, unit_vectors, reduction, is_weighted):
    peer = peer_loss(tfsim, "SoftNearestNeighborLoss", reduction=reduction)
    weights = np.linspace(0, 1, 12).astype("float32") if is_weighted else None
    loss = as_keras_loss(peer)
    value = loss(labels, unit_vectors, sample_weight=weights).numpy()
    rows = peer.call(labels[:, None], unit_vectors).numpy()
    expected = rows if weights is None else weights * rows
    if reduction in ("none", None):
        assert value.shape == (12,)
    else:
        by_weight = reduction == "mean_with_sample_weight" and is_weighted
        divisor = 1 if reduction == "sum" else weights.sum() if by_weight else 12
        expected = expected.sum() / divisor
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_same_formula_as_ours(tfsim, value_and_grad, labels, unit_vectors):
    # The labels leave one class with a single sample.
    labels[[2, 5, 8]] = 0
    theirs = value_and_grad(as_keras_loss(peer_loss(tfsim)), labels, unit_vectors)
    loss = keras_tcm.losses.MultiSimilarity(beta=40)
    value, gradient = value_and_grad(loss, labels, unit_vectors)
    assert value == pytest.approx(theirs[0], rel=1e-5)
    # Ours normalises, so that its gradient is along the sphere.
    outward = (theirs[1] * unit_vectors).sum(axis=1, keepdims=True) * unit_vectors
    np.testing.assert_allclose(gradient, theirs[1] - outward, atol=1e-5)


# ----------------------------------------------------------------------------- training


@pytest.mark.slow
@with_and_without_jit
def test_trains_alone_and_with_tcm(tfsim, small_model, features, labels, jit):
    # One model for all of them: building and compiling takes most of the time.
    alone = {name: as_keras_loss(peer_loss(tfsim, name)) for name in LOSSES}
    sums = {f"{name}_and_tcm": loss + 0.5 * TCM() for name, loss in alone.items()}
    model = small_model(*alone, *sums)
    embeddings = model(features)["PNLoss"].numpy()
    model.compile(keras.optimizers.SGD(0.05), loss=alone | sums, jit_compile=jit)
    targets = dict.fromkeys(alone | sums, labels)
    history = model.fit(features, targets, batch_size=12, epochs=8, verbose=0).history
    for name, loss in alone.items():
        expected, _ = eager(loss.loss, labels, embeddings)
        assert history[f"{name}_loss"][0] == pytest.approx(expected, rel=1e-5)
        expected += 0.5 * float(TCM()(labels, embeddings))
        assert history[f"{name}_and_tcm_loss"][0] == pytest.approx(expected, rel=1e-5)
    for output in targets:
        assert history[f"{output}_loss"][-1] < history[f"{output}_loss"][0]


def test_trains_in_mixed_precision(tfsim, small_model, features, labels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("adam", loss=as_keras_loss(peer_loss(tfsim)) + TCM())
    history = model.fit(features, labels, batch_size=12, epochs=6, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_weights_reach_the_loss_in_fit(tfsim, small_model, features, labels):
    model = small_model()
    model.compile(keras.optimizers.SGD(0.0), loss=as_keras_loss(peer_loss(tfsim)))
    value = model.evaluate(features, labels, batch_size=12, verbose=0)
    half = np.full(12, 0.5)
    weighted = model.evaluate(
        features, labels, batch_size=12, sample_weight=half, verbose=0
    )
    assert weighted == pytest.approx(0.5 * value, rel=1e-6)


# -------------------------------------------------------------- the rest of the package


@pytest.mark.filterwarnings("ignore:Your `PyDataset` class:UserWarning")
def test_sampler_feeds_our_model(tfsim, capsys):
    (x, y), _ = keras_tcm.datasets.load("digits")
    sampler = tfsim.samplers.MultiShotMemorySampler(
        x, y, classes_per_batch=4, examples_per_class_per_batch=3, steps_per_epoch=5
    )
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
        ]
    )
    model = keras_tcm.models.embedding_model(backbone, 8)
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=keras_tcm.losses.SupervisedContrastive() + TCM(),
        metrics=[keras_tcm.metrics.RecallAtK(1)],
    )
    history = model.fit(sampler, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["recall_at_1"][-1] > 0.5


def test_similarity_model(tfsim, features, labels, capsys):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    outputs = tfsim.layers.MetricEmbedding(4)(inputs)
    model = tfsim.models.SimilarityModel(inputs, outputs)
    loss = as_keras_loss(peer_loss(tfsim))
    # The distance is that of the loss.
    model.compile(loss=loss)
    assert "set to cosine" in capsys.readouterr().out

    model.compile(keras.optimizers.Adam(0.05), loss=loss + TCM(), distance="cosine")
    model.fit(features, labels, batch_size=12, epochs=60, verbose=0)
    model.index(features, labels, verbose=0)
    (nearest, *_), *others = model.lookup(features, k=2, verbose=0)
    assert len(others) == 11
    assert nearest.label == labels[0]
    assert nearest.distance == pytest.approx(0, abs=1e-5)
    calibration = model.calibrate(features, labels, verbose=0)
    # Every sample finds itself at distance 0, whatever the threshold.
    assert calibration.cutpoints["optimal"]["f1"] == pytest.approx(1)
    embeddings = model.predict(features, verbose=0)
    similarities = embeddings @ embeddings.T
    is_positive = labels[:, None] == labels
    assert similarities[is_positive].mean() > similarities[~is_positive].mean() + 0.5


# ------------------------------------------------------------------------------- saving


@with_every_loss
def test_round_trip(tfsim, labels, unit_vectors, name):
    loss = as_keras_loss(peer_loss(tfsim, name, distance="euclidean", reduction="sum"))
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(loss)
    assert type(copy.loss) is type(loss.loss)
    assert copy.get_config() == loss.get_config()
    assert (copy.name, copy.reduction, copy.dtype) == (name, "sum", "float32")
    assert copy.distance.name == "euclidean"
    assert float(copy(labels, unit_vectors)) == float(loss(labels, unit_vectors))


def test_saved_model(tfsim, small_model, features, labels, tmp_path):
    model = small_model()
    peer = peer_loss(tfsim, "TripletLoss", margin=0.3, name="mine")
    model.compile("adam", loss=0.5 * as_keras_loss(peer) + TCM(0.8, 0.2))
    model.fit(features, labels, batch_size=12, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.losses[0].loss.get_config()["margin"] == 0.3
    assert loaded.loss.losses[0].name == "mine"
    values = [
        m.evaluate(features, labels, batch_size=12, verbose=0) for m in (model, loaded)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    loaded.fit(features, labels, batch_size=12, verbose=0)
    assert int(loaded.optimizer.iterations) == 2


def test_loss_without_a_configuration(tfsim, labels, unit_vectors):
    class Own(tfsim.distances.CosineDistance):
        pass

    own_distance = as_keras_loss(peer_loss(tfsim, distance=Own()))
    assert np.isfinite(float(own_distance(labels, unit_vectors)))

    def rows(y, x, other_y, other_x):
        return 0.0 * x[:, 0]

    own_function = as_keras_loss(
        tfsim.losses.MetricLoss(rows, reduction="sum_over_batch_size")
    )
    assert float(own_function(labels, unit_vectors)) == 0
    for loss in own_distance, own_function:
        with pytest.raises(
            ValueError, match=r"(?s)`loss` must.*save_weights.*Received"
        ):
            loss.get_config()


# ------------------------------------------------------------------------------- errors


def test_not_such_a_loss(tfsim):
    two_views = tfsim.losses.SimCLRLoss(reduction="sum")
    for wrong in (
        keras.losses.Circle(),
        tfsim.losses.MultiSimilarityLoss,
        "MultiSimilarityLoss",
        None,
        two_views,
        peer_loss(tfsim, "MultiNegativesRankLoss"),
        tfsim.losses.XBM(peer_loss(tfsim), 10, reduction="sum"),
    ):
        with pytest.raises(TypeError, match=r"(?s)`loss` must be a loss of.*Received"):
            as_keras_loss(wrong)


def test_the_default_reduction_does_not_exist_in_keras_3(tfsim):
    with pytest.raises(ValueError, match="reduction"):
        tfsim.losses.MultiSimilarityLoss()


def test_wrong_shape(tfsim, unit_vectors):
    with pytest.raises(ValueError, match=r"`y_true` must have shape"):
        as_keras_loss(peer_loss(tfsim))(np.eye(12), unit_vectors)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere the backend is wrong")
def test_not_installed(hide_package):
    hide_package("tensorflow_similarity")
    with pytest.raises(ImportError, match=r'pip install "keras-tcm\[similarity\]"'):
        as_keras_loss(None)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="here the backend is right")
def test_wrong_backend():
    message = rf"(?s)tensorflow-similarity need.*compile=False.*Received: .*'{BACKEND}'"
    with pytest.raises(RuntimeError, match=message):
        as_keras_loss(None)
    config = {
        "class_name": "TensorFlowSimilarityLoss",
        "registered_name": "keras_tcm>TensorFlowSimilarityLoss",
        "config": {"loss": {}, "name": "loss", "dtype": "float32"},
    }
    with pytest.raises(RuntimeError, match=message):
        keras.saving.deserialize_keras_object(config)
