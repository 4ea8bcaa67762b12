"""All devices of a process share the pairs, with the result of one."""

import os
import subprocess
import sys

import keras
import pytest

from keras_tcm.evaluation._walk.device import local_devices

# Devices are made before a backend starts, so in a process of its own.
PROGRAM = """
import os
import threading

if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    number = int(os.environ["NUM_DEVICES"])
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(number)]
    )

import keras
import numpy as np

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation._walk import pair_walk, plan
from keras_tcm.evaluation._walk.device import local_devices, on_device

devices = local_devices()
used = []
products = pair_walk.products


def recording(rows, columns):
    places = [
        x.device if keras.backend.backend() == "tensorflow" else x.device.id
        for x in (rows, columns)
    ]
    assert places[0] == places[1]
    used.append((places[0], threading.get_ident()))
    return products(rows, columns)


pair_walk.products = recording
rng = np.random.default_rng(0)
labels = rng.integers(0, 90, 600)
x = rng.normal(size=(90, 16))[labels] + rng.normal(size=(600, 16))
gallery = {"gallery_embeddings": x[::2] + 0.1, "gallery_labels": labels[::2]}
for options in ({}, gallery, {"device": "backend"}):
    results = []
    for some in (devices, devices[:1]):
        plan.local_devices = lambda some=some: some
        used.clear()
        results.append(
            evaluate_embeddings(x, labels, block_size=64, verbose=False, **options)
        )
        print(len(some), "devices:", len({device for device, _ in used}), "used")
    assert results[0].to_dict() == results[1].to_dict(), options
with on_device(devices[-1]):
    print("chosen:", len(local_devices()))
"""


@pytest.mark.slow
def test_blocks_are_spread_over_all_devices():
    backend = keras.backend.backend()
    if backend == "torch":
        pytest.skip("PyTorch has one CPU device, and there is no GPU")
    number = 8 if backend == "jax" else 4
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={number}",
        "NUM_DEVICES": str(number),
        "KERAS_BACKEND": backend,
    }
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = process.stdout.split("\n")[:7]
    expected = [f"{number} devices: {number} used", "1 devices: 1 used"] * 3
    assert found == [*expected, "chosen: 0"]


def test_one_cpu_is_not_spread_over():
    assert len(local_devices()) <= 1
