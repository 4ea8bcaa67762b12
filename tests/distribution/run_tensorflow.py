"""Trains on one device and under `MirroredStrategy` on two logical CPUs."""

import importlib.util
import sys

import scenarios
import tensorflow as tf

from keras_tcm import losses


def peer():
    from tensorflow_similarity.losses import MultiSimilarityLoss

    from keras_tcm.interop.tensorflow_similarity import as_keras_loss

    loss = as_keras_loss(MultiSimilarityLoss(reduction="sum_over_batch_size"))
    return loss + losses.TCM(0.6, 0.1)


def main(names):
    (cpu,) = tf.config.list_physical_devices("CPU")
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])
    # One for all: a second one would take the first one's collective operations for
    # its own.
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    uneven = scenarios.batch_sizes(is_uneven=True)
    runs = {name: (each, uneven) for name, each in scenarios.SCENARIOS.items()}
    # One replica has nothing to do in the last step, the other meets the memory.
    runs["memory"] = scenarios.SCENARIOS["memory"], [*uneven[1:], 1]
    if importlib.util.find_spec("tensorflow_similarity"):
        runs["peer"] = scenarios.Scenario(peer), uneven
    results = {}
    for name in names or runs:
        scenario, sizes = runs[name]
        # Eagerly: to make graphs is most of the work, and these are tiny. Keras weighs
        # batches in the log of each output's loss, but in a graph it cannot.
        one = scenarios.train(scenario, sizes, run_eagerly=not scenario.heads)
        with strategy.scope():
            two = scenarios.train(scenario, sizes)
        results[name] = scenarios.compare(one, two)
    scenarios.report(results)


if __name__ == "__main__":
    main(sys.argv[1:])
