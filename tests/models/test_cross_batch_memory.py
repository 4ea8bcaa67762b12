"""Training with pairs from earlier batches."""

import keras
import numpy as np
import oracles
import pytest

from keras_tcm import losses
from keras_tcm.losses.partners import use_partners
from keras_tcm.models import CrossBatchMemory, embedding_model
from keras_tcm.relevance import HierarchyLevel

BACKEND = keras.backend.backend()
# What is fast: JAX computes slowly without compiling, and XLA compiles slowly for
# TensorFlow, where one test is enough.
FAST = BACKEND == "jax"
DIM = 6


def samples(num=60, num_classes=5, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(num_classes, size=num)
    x = rng.normal(size=(num_classes, dim))[y] + rng.normal(size=(num, dim))
    return x.astype("float32"), y


def encoder(num_classes=None, trainable=True):
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(7)])
    model = embedding_model(backbone, DIM, num_classes=num_classes)
    model.trainable = trainable
    return model


def batches(num, size):
    return [slice(start, min(start + size, num)) for start in range(0, num, size)]


def written(trainer):
    """Samples written to the memory, less whole turns."""
    return int(trainer._memory._written) % trainer.memory_size


# ----------------------------------------------------- against the definition, frozen


def tcm_of_anchors(x, y, w, anchors, positive_margin=0.6, negative_margin=0.1):
    """TCM over the pairs of some anchors with all samples."""
    s = oracles.similarities(x)
    totals = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for i in anchors:
        for j in range(len(x)):
            is_positive = y[i] == y[j]
            excess = s[i, j] - negative_margin
            if is_positive:
                excess = positive_margin - s[i, j]
            if i != j and excess >= 0:
                totals[is_positive][0] += w[i] * w[j] * excess
                totals[is_positive][1] += w[i] * w[j]
    return sum(total / count for total, count in totals.values() if count)


def multi_similarity_of_anchors(x, y, w, anchors, alpha=2.0, beta=50.0, base=0.5):
    s = oracles.similarities(x)
    total = 0.0
    for i in anchors:
        positives, negatives = oracles.partners(y, w, i)
        pull = sum(w[j] * np.exp(-alpha * (s[i, j] - base)) for j in positives)
        push = sum(w[j] * np.exp(beta * (s[i, j] - base)) for j in negatives)
        total += w[i] * (np.log1p(pull) / alpha + np.log1p(push) / beta)
    return total / len(anchors)


def smooth_ap_of_anchors(x, y, w, anchors):
    """Mean over the anchors with a positive, each as the only query of weight."""
    values, weights = [], []
    for i in anchors:
        others = [j for j in range(len(x)) if j != i and w[j]]
        if w[i] and any(y[j] == y[i] for j in others):
            values.append(average_precision_loss(x, y, w, i, others))
            weights.append(w[i])
    mean = np.average(values, weights=weights)
    return mean * np.mean([w[i] for i in anchors])


def average_precision_loss(x, y, w, query, others, temperature=0.1):
    s = oracles.similarities(x)[query]

    def nearer(j, i):
        return w[j] * oracles.sigmoid((s[j] - s[i]) / temperature)

    precisions, weights = [], []
    for i in others:
        if y[i] != y[query]:
            continue
        rest = [j for j in others if j != i]
        positives = sum(nearer(j, i) for j in rest if y[j] == y[query])
        precisions.append((1 + positives) / (1 + sum(nearer(j, i) for j in rest)))
        weights.append(w[i])
    return 1 - np.average(precisions, weights=weights)


LOSSES = {
    "tcm": (lambda: losses.TCM(0.6, 0.1), tcm_of_anchors),
    "tcm-in-blocks": (lambda: losses.TCM(0.6, 0.1, block_size=7), tcm_of_anchors),
    "multi-similarity": (
        lambda: losses.MultiSimilarity(epsilon=None),
        multi_similarity_of_anchors,
    ),
    "smooth-ap": (lambda: losses.SmoothAP(temperature=0.1), smooth_ap_of_anchors),
}


@pytest.mark.parametrize("with_weights", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_frozen_encoder_is_the_concatenated_batch(name, with_weights):
    """The logged losses are those of anchors from the batch among all samples kept."""
    make, of_anchors = LOSSES[name]
    x, y = samples()
    w = np.ones(len(x))
    if with_weights:
        w = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], len(x))
    model = encoder(trainable=False)
    trainer = CrossBatchMemory(model, memory_size=25)
    trainer.compile("sgd", loss=make(), jit_compile=FAST)
    embedded = model.predict(x, verbose=0)
    for own in batches(len(x), 16):
        weight = w[own].astype("float32") if with_weights else None
        # Of a Keras loss tracker, the mean over the steps since the last reset.
        trainer.reset_metrics()
        value = trainer.train_on_batch(x[own], y[own], sample_weight=weight)
        kept = np.r_[own, max(own.start - 25, 0) : own.start]
        expected = of_anchors(
            embedded[kept], y[kept], w[kept], range(own.stop - own.start)
        )
        assert float(value) == pytest.approx(expected, rel=1e-4)


def test_first_step_is_that_of_the_plain_model():
    """An empty memory adds no pair; then it does."""
    x, y = samples()
    weights = []
    for wrap in (lambda model: model, lambda model: CrossBatchMemory(model, 40)):
        model = encoder()
        trainer = wrap(model)
        loss = losses.Contrastive() + losses.TCM(0.6, 0.1)
        trainer.compile(keras.optimizers.SGD(0.5), loss=loss, jit_compile=FAST)
        found = []
        for own in batches(len(x), 20):
            trainer.train_on_batch(x[own], y[own])
            found.append(model.get_weights()[0])
        weights.append(found)
    np.testing.assert_allclose(weights[0][0], weights[1][0], atol=1e-6)
    assert np.abs(weights[0][1] - weights[1][1]).max() > 1e-4


def test_gradient_does_not_reach_the_memory(value_and_grad):
    """Against finite differences in the batch alone."""
    x, y = samples(20, dim=DIM)
    memory = CrossBatchMemory(encoder(), memory_size=12)
    memory._remember(x[:12], y[:12], None)
    loss = losses.TCM(0.6, 0.1)

    def with_memory(y_true, y_pred, sample_weight=None):
        with use_partners(memory._remembered):
            return loss(y_true, y_pred)

    value, gradient = value_and_grad(with_memory, y[12:], x[12:])

    def by_hand(batch):
        joint = np.concatenate([batch, x[:12]])
        labels = np.concatenate([y[12:], y[:12]])
        return tcm_of_anchors(joint, labels, np.ones(20), range(8))

    assert value == pytest.approx(by_hand(x[12:]), rel=1e-5)
    expected = oracles.finite_differences(by_hand, x[12:].astype("float64"))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


# --------------------------------------------------------------------------- behaviour


def test_warm_up_fills_the_memory_but_does_not_use_it():
    x, y = samples()
    values = {}
    for warmup_steps in 0, 2, 9:
        trainer = CrossBatchMemory(encoder(trainable=False), 40, warmup_steps)
        trainer.compile("sgd", loss=losses.TCM(0.6, 0.1), jit_compile=FAST)
        found = []
        for own in batches(len(x), 20):
            trainer.reset_metrics()
            found.append(float(trainer.train_on_batch(x[own], y[own])))
        values[warmup_steps] = found
    assert values[0][0] == values[9][0]
    assert values[0][1] != pytest.approx(values[9][1], rel=1e-3)
    assert values[2] == pytest.approx([*values[9][:2], values[0][2]])


@pytest.mark.parametrize("jit", [False] if BACKEND == "torch" else [True])
def test_fit_validate_save_and_go_on(jit, tmp_path):
    x, y = samples(70)
    model = encoder()
    trainer = CrossBatchMemory(model, memory_size=32, warmup_steps=1)
    loss = losses.MultiSimilarity() + 0.5 * losses.TCM(0.6, 0.1)
    trainer.compile(keras.optimizers.Adam(0.01), loss=loss, jit_compile=jit)
    # 70 samples: the last batch is a partial one.
    history = trainer.fit(
        x, y, batch_size=16, epochs=4, validation_data=(x, y), verbose=0
    ).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    # Validation is that of the plain model.
    model.compile("sgd", loss=loss)
    plain = model.evaluate(x, y, batch_size=16, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(plain, rel=1e-4)
    np.testing.assert_allclose(
        trainer.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )
    assert written(trainer) == 4 * 70 % 32
    assert trainer._memory.count == 32

    path = tmp_path / "trainer.keras"
    trainer.save(path)
    loaded = keras.saving.load_model(path)
    for own, other in zip(trainer.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(own), keras.ops.convert_to_numpy(other)
        )
    assert np.abs(keras.ops.convert_to_numpy(loaded._memory.embeddings)).sum() > 0
    again = []
    for one in trainer, loaded:
        # As later versions of Keras do it themselves.
        one.reset_metrics()
        again.append(one.train_on_batch(x[:16], y[:16], return_dict=True)["loss"])
    assert again[0] == pytest.approx(again[1], rel=1e-5)


def test_no_counter_grows_with_the_steps():
    """One that does stops the training after 2^31 samples, or loses its place."""
    x, y = samples(15)
    trainer = CrossBatchMemory(encoder(trainable=False), 10, warmup_steps=3)
    trainer.compile(keras.optimizers.SGD(0.0), losses.TCM(0.6, 0.1), jit_compile=FAST)
    for turn in range(14):
        trainer.train_on_batch(x[:7], y[:7])
        integers = [
            keras.ops.convert_to_numpy(variable)
            for variable in trainer.non_trainable_variables
            if keras.backend.is_int_dtype(variable.dtype)
        ]
        counters = [int(variable) for variable in integers if variable.ndim == 0]
        assert len(counters) == 2
        assert max(counters) <= 2 * 10
        (remembered,) = [variable for variable in integers if variable.ndim == 1]
        # Two batches have more samples than the memory; the newer one is all in it.
        expected = np.r_[y[:7], y[4:7]] if turn else np.r_[y[:7], [0] * 3]
        np.testing.assert_array_equal(np.sort(remembered), np.sort(expected))


def test_config():
    trainer = CrossBatchMemory(encoder(), 32, 3, label_width=2, name="xbm")
    copy = CrossBatchMemory.from_config(trainer.get_config())
    assert copy.get_config() == trainer.get_config()
    assert (copy.memory_size, copy.warmup_steps, copy.label_width) == (32, 3, 2)


def test_beside_a_loss_on_cosines():
    """Only the pairwise loss on the embedding looks at the memory."""
    x, y = samples()
    model = encoder(num_classes=5)
    trainer = CrossBatchMemory(model, memory_size=32)
    trainer.compile(
        "adam",
        loss={"cosines": losses.ArcFace(), "embedding": losses.TCM(0.6, 0.1)},
        jit_compile=FAST,
    )
    y_true = {"cosines": y, "embedding": y}
    history = trainer.fit(x, y_true, batch_size=16, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert written(trainer) == 180 % 32
    trainer.compile("adam", loss={"cosines": losses.ArcFace() + losses.TCM()})
    with pytest.raises(ValueError, match=r"losses on 'embedding'.*'cosines'"):
        trainer.train_on_batch(x, y_true)


def test_label_rows():
    x, y = samples()
    rows = np.stack([y % 2, y // 2], axis=1)
    values = []
    for labels, width, relevance in (
        (rows, 2, HierarchyLevel(1)),
        (y, None, None),
    ):
        model = encoder(trainable=False)
        trainer = CrossBatchMemory(model, 32, label_width=width)
        loss = losses.TCM(0.6, 0.1, relevance=relevance)
        trainer.compile("sgd", loss=loss, jit_compile=FAST)
        values.append(
            trainer.fit(x, labels, batch_size=16, shuffle=False, verbose=0).history
        )
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        trainer = CrossBatchMemory(encoder(), memory_size=32)
        trainer.compile("adam", loss=losses.TCM(0.6, 0.1), jit_compile=FAST)
        x, y = samples()
        history = trainer.fit(x, y + 2**24, batch_size=16, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert keras.ops.dtype(trainer._memory.embeddings) == "float32"
    labels = keras.ops.convert_to_numpy(trainer._memory.labels)
    np.testing.assert_array_equal(np.unique(labels), np.unique(y + 2**24))


# ------------------------------------------------------------------------------ errors


def test_embedding_of_another_width():
    """A loss that is handed something else than what the memory holds."""
    memory = CrossBatchMemory(encoder(), memory_size=8)
    with (
        use_partners(memory._remembered),
        pytest.raises(ValueError, match=r"`y_pred` must.*remembered, \(batch, 6\).*4"),
    ):
        losses.TCM()(np.arange(3), np.ones((3, 4), "float32"))


def test_sequential_model():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    trainer = CrossBatchMemory(model, memory_size=8)
    trainer.compile("sgd", loss=losses.TCM())
    x, y = samples(8)
    trainer.fit(x, y, verbose=0)
    remembered = keras.ops.convert_to_numpy(trainer._memory.labels)
    np.testing.assert_array_equal(np.sort(remembered), np.sort(y))
    with pytest.raises(ValueError, match=r"`model` must be a functional or built"):
        CrossBatchMemory(keras.Sequential([keras.layers.Dense(4)]), memory_size=8)


def test_label_rows_without_label_width():
    trainer = CrossBatchMemory(encoder(), memory_size=8)
    trainer.compile("sgd", loss=losses.TCM(relevance=HierarchyLevel(0)))
    x, y = samples(8)
    with pytest.raises(ValueError, match=r"`y_true` must.*remembered.*label_width"):
        trainer.train_on_batch(x, np.stack([y, y], axis=1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"memory_size": 0}, ValueError, "`memory_size` must be"),
        ({"memory_size": 2.5}, TypeError, "`memory_size` must be"),
        ({"memory_size": 8, "warmup_steps": -1}, ValueError, "`warmup_steps` must"),
        ({"memory_size": 8, "label_width": 0}, ValueError, "`label_width` must be"),
        ({"memory_size": 8, "model": "resnet"}, TypeError, "`model` must be"),
        ({"memory_size": 8, "output": "other"}, ValueError, "`output` must be one of"),
    ],
)
def test_wrong_argument(options, error, message):
    with pytest.raises(error, match=message):
        CrossBatchMemory(**{"model": encoder(num_classes=3), **options})


def test_models_without_embeddings():
    images = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"shape \(batch, dimension\)"):
        CrossBatchMemory(images, 8)
