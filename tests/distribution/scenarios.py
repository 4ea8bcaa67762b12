"""Trainings that must not depend on how a batch is divided: for the `run_*` scripts.

A script trains each scenario on one device and on several, and prints as JSON how far
apart the two are.
"""

import json

import keras
import numpy as np

from keras_tcm import losses
from keras_tcm.data import ClassBalancedSampler
from keras_tcm.layers import StackTowers
from keras_tcm.metrics import OPIS, RecallAtK
from keras_tcm.models import CrossBatchMemory, embedding_model

BATCH = 16
STEPS = 8
DIM = 6


def samples(count, num_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(num_classes, size=count)
    x = rng.normal(size=(num_classes, 8))[y] + rng.normal(size=(count, 8))
    # Some samples count for nothing, none has the weight of another.
    w = rng.uniform(0.5, 2, count) * (rng.random(count) > 0.1)
    return x.astype("float32"), y, w.astype("float32")


def encoder(num_classes=None):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(7, activation="tanh")
    backbone = keras.Sequential([keras.Input((8,)), layer])
    return embedding_model(backbone, DIM, num_classes=num_classes)


def all_pairwise():
    return (
        losses.MultiSimilarity()
        + losses.TCM(0.6, 0.1)
        + losses.SupervisedContrastive(temperature=0.5)
        + losses.Contrastive()
        + losses.TripletMargin(margin=0.7)
        + losses.TripletMargin(mining="batch_hard")
        + 0.5 * losses.SmoothAP(temperature=0.1)
        + 0.5 * losses.RecallAtK((1, 4), temperature=0.1)
    )


def two_towers():
    """Two networks on one input, whose outputs ask for each other."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    towers = [
        keras.layers.Dense(DIM)(keras.layers.Dense(7, activation="tanh")(inputs))
        for _ in range(2)
    ]
    return keras.Model(inputs, StackTowers(scale=5.0, bias=-3.0)(towers))


class Scenario:
    """How to train."""

    def __init__(self, loss, optimizer=None, weighted=False, policy=None, **options):
        self.loss = loss
        self.optimizer = optimizer or (lambda: keras.optimizers.SGD(0.1))
        self.weighted = weighted
        self.policy = policy
        self.memory = options.get("memory")
        self.heads = options.get("heads", False)
        self.towers = options.get("towers", False)
        self.metrics = options.get("metrics", False)

    def compiled(self, **options):
        model = two_towers() if self.towers else encoder(5 if self.heads else None)
        trainer = model
        if self.memory:
            trainer = CrossBatchMemory(model, self.memory, warmup_steps=1)
        metrics = [OPIS(), RecallAtK(2)] if self.metrics else None
        trainer.compile(self.optimizer(), loss=self.loss(), metrics=metrics, **options)
        return model, trainer


def sgd(rate):
    return lambda: keras.optimizers.SGD(rate)


def adam():
    return keras.optimizers.Adam(0.001)


SCENARIOS = {
    "every pairwise loss": Scenario(all_pairwise),
    "weights, blocks, adam": Scenario(
        lambda: losses.MultiSimilarity() + losses.TCM(0.6, 0.1, block_size=3),
        adam,
        weighted=True,
    ),
    "margins that set themselves": Scenario(
        # Of a range at which few pairs are hard, so that the longest rows of all
        # devices limit the weight.
        lambda: (
            losses.AutoTCM(losses.MultiSimilarity(), far_range=(0.5, 0.6))
            + keras.losses.Circle(gamma=8)
        ),
        sgd(0.01),
        weighted=True,
        memory=40,
    ),
    "two towers": Scenario(
        lambda: losses.AutoTCM(
            losses.SigLIP(scale=None, bias=None)
            + losses.InfoNCE(temperature=None)
            + losses.MultiSimilarity(anchors="queries")
        ),
        sgd(0.01),
        weighted=True,
        memory=40,
        towers=True,
        metrics=True,
    ),
    "heads": Scenario(
        lambda: {
            "cosines": losses.ProxyAnchor()
            + losses.ArcFace(scale=8, reduction="mean_with_sample_weight"),
            "embedding": losses.SupervisedContrastive(
                reduction="mean_with_sample_weight"
            ),
        },
        sgd(0.01),
        weighted=True,
        heads=True,
    ),
    "memory": Scenario(
        lambda: losses.Contrastive() + losses.TCM(0.6, 0.1),
        adam,
        weighted=True,
        memory=40,
        metrics=True,
    ),
    "sums with keras": Scenario(
        lambda: losses.WeightedSum(
            [
                keras.losses.Circle(gamma=8),
                losses.TCM(0.6, 0.1, reduction="sum"),
                keras.losses.SparseCategoricalCrossentropy(True, reduction="sum"),
            ],
            [1.0, 0.1, 0.1],
        ),
        sgd(0.01),
    ),
    "mixed precision": Scenario(
        lambda: losses.MultiSimilarity() + losses.TCM(0.6, 0.1),
        # From a scale at which no gradient overflows, which would skip a step.
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.001), initial_scale=1024
        ),
        weighted=True,
        policy="mixed_float16",
    ),
    "without gather": Scenario(lambda: losses.TCM(0.6, 0.1, gather=False)),
}


class Parts(keras.utils.PyDataset):
    """The batches of one process: with `cuts`, its side of each batch."""

    def __init__(self, arrays, heads, sizes, rank, cuts):
        super().__init__()
        ends = np.cumsum(sizes)
        self.batches = []
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            start, stop = 0, size
            if cuts is not None:
                start, stop = (0, cuts[number]) if rank == 0 else (cuts[number], size)
            rows = slice(end - size + start, end - size + stop)
            x, y, w = (None if array is None else array[rows] for array in arrays)
            if heads:
                y = {"cosines": y, "embedding": y}
                w = None if w is None else {"cosines": w, "embedding": w}
            self.batches.append((x, y) if w is None else (x, y, w))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class FirstStep(keras.callbacks.Callback):
    """Keeps the weights after the first step."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.weights = None

    def on_train_batch_end(self, batch, logs=None):
        # On JAX, `self.model` brings the state into the variables first.
        if self.model is not None and self.weights is None:
            self.weights = flat_weights(self.encoder)


def train_with_sampler(num_processes=1, rank=0, prepare=None):
    """Train on six classes a step, of which each process draws its share."""
    x, y, _ = samples(96, num_classes=8)
    sampler = ClassBalancedSampler(
        x,
        y,
        classes_per_batch=6 // num_processes,
        samples_per_class=2,
        seed=0,
        num_processes=num_processes,
        process_id=rank,
    )
    model = encoder()
    if prepare is not None:
        prepare(model)
    model.compile(sgd(0.1)(), loss=losses.MultiSimilarity() + losses.TCM(0.6, 0.1))
    history = model.fit(sampler, shuffle=False, epochs=2, verbose=0).history
    return np.append(flat_weights(model), history["loss"])


def flat_weights(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def batch_sizes(is_uneven):
    return [BATCH] * (STEPS - 1) + [BATCH - 5 if is_uneven else BATCH]


def train(scenario, sizes, rank=0, cuts=None, prepare=None, **options):
    """Train and return weights after one step and after all, and what is logged."""
    keras.config.set_dtype_policy(scenario.policy or "float32")
    try:
        model, trainer = scenario.compiled(**options)
        before = flat_weights(model)
        if prepare is not None:
            prepare(trainer)
        x, y, w = samples(sum(sizes))
        arrays = x, y, w if scenario.weighted else None
        parts = Parts(arrays, scenario.heads, sizes, rank, cuts)
        evaluated = {}
        if scenario.metrics:
            # Of the same weights: OPIS counts pairs at thresholds, and jumps where a
            # training that rounds in another order moves a pair past one.
            evaluated = trainer.evaluate(parts, verbose=0, return_dict=True)
            evaluated = {f"val_{name}": [value] for name, value in evaluated.items()}
        first = FirstStep(model)
        logs = trainer.fit(parts, shuffle=False, verbose=0, callbacks=[first]).history
    finally:
        keras.config.set_dtype_policy("float32")
    return {
        "before": before,
        "first": first.weights,
        "last": flat_weights(model),
        "logs": {name: float(v[-1]) for name, v in {**logs, **evaluated}.items()},
        "memory": (
            [np.array(keras.ops.convert_to_numpy(v)) for v in trainer.variables[-5:]]
            if scenario.memory
            else []
        ),
    }


def compare(one, other):
    """How far apart two trainings are, beside how far each went."""
    memory = zip(one["memory"], other["memory"], strict=True)
    return {
        "first step": float(np.abs(one["first"] - other["first"]).max()),
        "last step": float(np.abs(one["last"] - other["last"]).max()),
        "change": float(np.abs(one["last"] - one["before"]).max()),
        "memory": max((float(np.abs(a - b).max()) for a, b in memory), default=0.0),
        "logs": {
            name: [value, other["logs"][name]] for name, value in one["logs"].items()
        },
    }


def report(results):
    """Print what a test reads."""
    print("RESULTS " + json.dumps({"keras": keras.version(), **results}))
