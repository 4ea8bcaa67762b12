"""Trains on one device and under `DataParallel`: virtual devices, or two processes."""

import sys

import jax
import keras
import numpy as np
import scenarios

SKIPPED = ("without gather",)
# JAX divides any program in the same way among two and among eight.
ON_TWO_AS_WELL = ("every pairwise loss", "memory")


def on_devices(names):
    jax.config.update("jax_num_cpu_devices", 8)
    sizes = scenarios.batch_sizes(is_uneven=False)
    results = {}
    for name in names or scenarios.SCENARIOS:
        if name in SKIPPED:
            continue
        scenario = scenarios.SCENARIOS[name]
        one = scenarios.train(scenario, sizes)
        for count in (2, 8) if name in ON_TWO_AS_WELL else (8,):
            devices = keras.distribution.list_devices()[:count]
            distribution = keras.distribution.DataParallel(devices=devices)
            with distribution.scope():
                several = scenarios.train(scenario, sizes)
            results[f"{name}, {count} devices"] = scenarios.compare(one, several)
    with distribution.scope():
        try:
            scenarios.train(scenarios.SCENARIOS["memory"], [15])
        except ValueError as error:
            results["uneven"] = str(error)
    scenarios.report(results)


def in_processes(address, rank, names):
    keras.distribution.initialize(address, 2, rank)
    sizes = scenarios.batch_sizes(is_uneven=False)
    cuts = [size // 2 for size in sizes]
    results = {}
    for name in names:
        scenario = scenarios.SCENARIOS[name]
        one = scenarios.train(scenario, sizes)
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        with distribution.scope():
            two = scenarios.train(scenario, sizes, rank, cuts)
        results[name] = scenarios.compare(one, two)
    one = scenarios.train_with_sampler()
    with distribution.scope():
        two = scenarios.train_with_sampler(2, rank)
    results["sampler"] = float(np.abs(one - two).max())
    scenarios.report(results)


if __name__ == "__main__":
    _, mode, *rest = sys.argv
    if mode == "devices":
        on_devices(rest)
    else:
        in_processes(rest[0], int(rest[1]), rest[2:])
