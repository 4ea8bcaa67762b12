"""Train on one device and on two logical CPUs with `MirroredStrategy` on TensorFlow.

KERAS_BACKEND=tensorflow python benchmarks/distributed_tensorflow.py

Prints how far apart the weights end. The losses and the metrics find the strategy by
themselves.
"""

import keras
import numpy as np
import tensorflow as tf

import keras_tcm


def train(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Train under the strategy in scope; return the weights and the logs."""
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128, "relu")])
    model = keras_tcm.models.embedding_model(backbone, embedding_dim=32)
    model.compile(
        keras.optimizers.Adam(0.001),
        loss=keras_tcm.losses.MultiSimilarity() + 0.5 * keras_tcm.TCM(),
        metrics=[keras_tcm.OPIS(), keras_tcm.metrics.RecallAtK(1)],
    )
    batches = keras_tcm.data.ClassBalancedSampler(x, y, 16, 4, seed=0)
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    weights = np.concatenate([np.ravel(w) for w in model.get_weights()])
    return weights, {name: values[-1] for name, values in history.items()}


def main() -> None:
    """Compare."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [half, half])
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(32), 16)
    x = (rng.normal(size=(32, 64))[y] + rng.normal(size=(512, 64))).astype("float32")

    one, logs = train(x, y)
    # Model, loss and metrics are made in its scope.
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        many, logs_of_many = train(x, y)
    print(f"largest difference of a weight: {np.abs(one - many).max():.1e}")
    for name, value in logs.items():
        print(f"{name}: {value:.6f} on 1 device, {logs_of_many[name]:.6f} on 2")


if __name__ == "__main__":
    main()
