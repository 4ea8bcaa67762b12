"""Train on one device and on eight virtual ones with `keras.distribution` on JAX.

KERAS_BACKEND=jax python benchmarks/distributed_jax.py

Prints how far apart the weights end. Nothing in the model, the loss or the metrics
knows of the devices.
"""

import jax
import keras
import numpy as np

import keras_tcm

DEVICES = 8


def train(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Train under the distribution that is set; return the weights and the logs."""
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128, "relu")])
    model = keras_tcm.models.embedding_model(backbone, embedding_dim=32)
    model.compile(
        keras.optimizers.Adam(0.001),
        loss=keras_tcm.losses.MultiSimilarity() + 0.5 * keras_tcm.TCM(),
        metrics=[keras_tcm.OPIS(), keras_tcm.metrics.RecallAtK(1)],
    )
    # 64 samples a batch, which 8 divides; there is no smaller batch at the end.
    batches = keras_tcm.data.ClassBalancedSampler(x, y, 16, 4, seed=0)
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    weights = np.concatenate([np.ravel(w) for w in model.get_weights()])
    return weights, {name: values[-1] for name, values in history.items()}


def main() -> None:
    """Compare."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(32), 16)
    x = (rng.normal(size=(32, 64))[y] + rng.normal(size=(512, 64))).astype("float32")

    one, logs = train(x, y)
    # Before the model and its metrics are made.
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    many, logs_of_many = train(x, y)
    print(f"largest difference of a weight: {np.abs(one - many).max():.1e}")
    for name, value in logs.items():
        print(f"{name}: {value:.6f} on 1 device, {logs_of_many[name]:.6f} on {DEVICES}")


if __name__ == "__main__":
    main()
