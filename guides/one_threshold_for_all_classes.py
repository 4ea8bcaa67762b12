"""
Title: Metric learning with one threshold for all classes
Author: [The keras_tcm authors](https://github.com/keras-tcm/keras_tcm)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Train embeddings for which one distance threshold suits every class, and choose it for classes not seen.
Accelerator: None
"""

"""
## Introduction

An embedding model turns images into vectors, and two images match if their vectors are
closer than a threshold. Face recognition, product matching and duplicate search work
like this, and most of them meet classes that were not there in training.

The loss says which of two distances should be smaller. It does not say *how small* a
distance should be. So every class ends up with a threshold of its own: at the one that
is deployed, some classes get too many false matches, and others lose true ones.

In this guide, we will:

- train a small network with a usual loss, and once more with TCM added to it, the
  threshold-consistent margin loss (Zhang et al., 2024), which asks for similarities
  above one value inside classes, and below another between them, the same for all;
- measure how well one threshold suits classes that were not trained on (OPIS);
- choose a threshold whose rate of false matches holds for other classes, and check it.

It takes about five minutes on a CPU.
"""

"""
## Setup
"""

"""shell
pip install -q keras-tcm
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # Or "jax", or "torch".

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers

import keras_tcm

keras.utils.set_random_seed(0)

EPOCHS = 8
STEPS_PER_EPOCH = 60
CLASSES_PER_BATCH = 32
SAMPLES_PER_CLASS = 4
EMBEDDING_DIM = 64
FAR_TARGET = 0.01

"""
## Prepare the data

`glyphs` are characters, drawn from the fonts of matplotlib on first use. Latin letters
and digits train; letters of other scripts test. **No class of the test is in the
training set**, as with faces or products.
"""

(x_train, y_train), (x_test, y_test) = keras_tcm.datasets.load("glyphs")
print(f"Training: {x_train.shape}, {len(np.unique(y_train))} classes")
print(f"Test: {x_test.shape}, {len(np.unique(y_test))} classes")

rng = np.random.default_rng(0)
figure, axes = plt.subplots(4, 10, figsize=(8, 3.4))
for row, label in zip(axes, rng.choice(np.unique(y_test), 4, replace=False)):
    images = x_test[rng.choice(np.flatnonzero(y_test == label), 10)]
    for axis, image in zip(row, images):
        axis.imshow(image, cmap="gray")
        axis.axis("off")
plt.show()

"""
## Build a model

Any network will do that ends in a vector. Its length does not count, only its
direction.
"""


def build_model():
    inputs = keras.Input(x_train.shape[1:])
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(EMBEDDING_DIM)(x)
    return keras.Model(inputs, layers.UnitNormalization()(x))


"""
## Train with and without TCM

`MultiSimilarity` (Wang et al., 2019) is a usual loss of metric learning. `AutoTCM` adds
TCM to any loss. Its two margins follow the similarities at which pairs of different
classes lie in the batch, and its weights follow the gradient of the other loss, so
there is nothing to tune.

Such losses compare the samples of a batch with each other, so a batch must have several
of each class: that is what the sampler is for.
"""


def train(loss):
    keras.utils.set_random_seed(0)
    model = build_model()
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss=loss)
    batches = keras_tcm.data.ClassBalancedSampler(
        x_train,
        y_train,
        classes_per_batch=CLASSES_PER_BATCH,
        samples_per_class=SAMPLES_PER_CLASS,
        steps_per_epoch=STEPS_PER_EPOCH,
        seed=0,
    )
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=2)
    return model


base_loss = keras_tcm.losses.MultiSimilarity()
trained = {
    "MultiSimilarity": train(base_loss),
    "with TCM": train(keras_tcm.AutoTCM(base_loss)),
}

"""
## Measure on classes that were not trained on

`evaluate_embeddings` compares all pairs of test images. Two rates describe a threshold:
FAR, the share of pairs of different classes that it accepts, and FRR, the share of
pairs of one class that it rejects. OPIS (operating-point-inconsistency score) says how
differently the classes fare at the same threshold, over those with a FAR from 1% to
10%: lower is better, and 0 means that all classes fare alike.
"""

embeddings, results = {}, {}
for name, model in trained.items():
    embeddings[name] = model.predict(x_test, batch_size=512, verbose=0)
    results[name] = keras_tcm.evaluate_embeddings(embeddings[name], y_test)
    point = results[name].operating_point(FAR_TARGET)
    print(
        f"{name:16} OPIS {results[name].opis:.4f}, R@1 {results[name].recall[1]:.3f}, "
        f"FRR {point.frr:.1%} at FAR {point.far:.2%}"
    )

"""
Each thin line below is a class: how well it is served at each threshold. If all lines
lay on the black one, any threshold would suit all classes.
"""

for name, result in results.items():
    keras_tcm.visualization.plot_utility(result).set_title(name)
    plt.show()

"""
## Choose a threshold for classes not seen

A threshold that has a FAR of 1% on some classes has more on others, about half of the
time. `choose_threshold` returns one whose FAR is no more than that on *other* classes
of the same kind, in 95% of the cases. We choose it on one half of the test classes and
check it on the other half. The verdict is about classes like these: whether the promise
holds for them, or whether they are too few to tell.
"""

classes = rng.permutation(np.unique(y_test))
is_known = np.isin(y_test, classes[: len(classes) // 2])
thresholds, checks = {}, {}
for name, x in embeddings.items():
    thresholds[name] = keras_tcm.choose_threshold(
        x[is_known], y_test[is_known], far=FAR_TARGET, confidence=0.95
    )
    checks[name] = thresholds[name].check(x[~is_known], y_test[~is_known])
    print(
        f"{name:16} threshold {thresholds[name].value:.3f}; on other classes "
        f"FAR {checks[name].far:.2%}, FRR {checks[name].frr:.1%} "
        f"({checks[name].verdict})"
    )

"""
## Use it

The threshold is a JSON file that belongs with the model. It accepts or rejects pairs,
and tells how likely a pair is of one class, given how many pairs are where it is used.
"""

trained["with TCM"].save("embedding_model.keras")
thresholds["with TCM"].save("threshold.json")

model = keras.saving.load_model("embedding_model.keras")
threshold = keras_tcm.Threshold.load("threshold.json")
pairs = model.predict(x_test[:4], verbose=0)
distances = threshold.distances(pairs[0], pairs[1:])
print("Distances:", distances.round(3))
print("Accepted:", threshold.accepts(pairs[0], pairs[1:]))
print("Probabilities:", threshold.probability(distances, prior=0.5).round(3))

"""
## Conclusion

A usual loss of metric learning leaves it to each class where its threshold lies. TCM
asks for the same place in all classes; it is one more term in `compile`. How much it
helps differs between data sets and losses, and one training of one network, as here, is
an example and no evidence: the
[study](https://github.com/keras-tcm/keras_tcm/blob/main/docs/study.md) compares many.

To go on with your own data: exchange `x_train` and `y_train`, keep some classes out of
the training, and choose the threshold on these.

## References

- Q. Zhang et al., [Threshold-Consistent Margin Loss for Open-World Deep Metric
  Learning](https://arxiv.org/abs/2307.04047), ICLR 2024
- X. Wang et al., [Multi-Similarity Loss with General Pair Weighting for Deep Metric
  Learning](https://arxiv.org/abs/1904.06627), CVPR 2019
"""
