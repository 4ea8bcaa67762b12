"""Training, metrics and logs on several devices against those on one.

Each engine runs in processes of its own, which train everything twice (`scenarios`).
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import pytest

BACKEND = keras.backend.backend()
FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[1]
# A multiple of what it takes, for busy machines.
SECONDS = 900

pytestmark = pytest.mark.slow


def run(script, *arguments, processes=({},)):
    """Run a script in one process or several; return what each reports."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KERAS_BACKEND": BACKEND,
        "OMP_NUM_THREADS": "1",
        # Replicas wait for each other in threads.
        "TF_NUM_INTEROP_THREADS": "4",
        "PYTHONWARNINGS": "ignore",
    }
    running = [
        subprocess.Popen(
            [sys.executable, FOLDER / script, *map(str, arguments), *map(str, own)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for own in processes
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in running]
    except subprocess.TimeoutExpired:
        for process in running:
            process.kill()
        outputs = [process.communicate()[0] for process in running]
        pytest.fail(f"{script} takes more than {SECONDS} s:\n" + "\n".join(outputs))
    results = []
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
        (line,) = [x for x in output.splitlines() if x.startswith("RESULTS ")]
        results.append(json.loads(line.removeprefix("RESULTS ")))
    return results


def check_equal(name, result, tolerance=1e-6, log_tolerance=1e-5):
    """The weights after one step and after eight, the memory and all logs."""
    assert result["first step"] <= tolerance, (name, result)
    # Each of the eight steps rounds, in another order on every kind of processor.
    for what in "last step", "memory":
        assert result[what] <= 8 * tolerance, (name, what, result)
    # Small differences mean nothing where little has changed.
    assert result["change"] > 500 * tolerance, (name, result)
    for log, (expected, found) in result["logs"].items():
        assert found == pytest.approx(expected, rel=log_tolerance), (name, log)


def check_all(results):
    """All scenarios but that which must differ."""
    checked = 0
    for name, result in results.items():
        if name == "without gather":
            assert result["first step"] > 0.05 * result["change"]
        elif isinstance(result, dict) and name != "without gather, ranks":
            if name.startswith("mixed precision"):
                # Half-precision layers round to some 1e-3, in each part for itself.
                check_equal(name, result, tolerance=3e-6, log_tolerance=1e-4)
            else:
                check_equal(name, result)
            checked += 1
    assert checked >= 6
    metrics = [x for x in results.values() if isinstance(x, dict) and "logs" in x]
    assert any("val_opis" in x["logs"] for x in metrics)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_mirrored_strategy_on_two_devices():
    """The last batch is uneven: 6 samples for one replica, 5 for the other.

    That of the memory has one sample, and a replica none.
    """
    (results,) = run("run_tensorflow.py")
    check_all(results)


@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is JAX's")
def test_data_parallel_on_two_and_eight_devices():
    (results,) = run("run_jax.py", "devices")
    check_all(results)
    # JAX's own limit, which it tells.
    assert "evenly divide" in results["uneven"]


@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is JAX's")
def test_data_parallel_in_two_processes():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    processes = [(rank, "memory") for rank in range(2)]
    for results in run("run_jax.py", "processes", address, processes=processes):
        check_equal("memory", results["memory"])
        assert results["sampler"] <= 1e-6


@pytest.mark.skipif(BACKEND != "torch", reason="torch.distributed is PyTorch's")
def test_two_ranks(tmp_path):
    """Always uneven: 9 samples for one rank, 7 for the other."""
    processes = [(0,), (1,)]
    results, _ = run("run_torch.py", tmp_path / "store", processes=processes)
    check_all(results)
    for name, result in results.items():
        if name.endswith(", ranks"):
            assert result["last step"] == 0
    assert results["by hand"] <= 1e-6
    assert results["sampler"] <= 1e-6


@pytest.mark.skipif(BACKEND != "torch", reason="torch.distributed is PyTorch's")
def test_ranks_that_do_not_fit_together(tmp_path):
    """An error on all ranks that are there, and not a hang."""
    processes = [(0, 5), (1, 5)]
    script = "run_torch_failures.py"
    results = run(script, tmp_path / "store", processes=processes)
    for result in results:
        for what in "width", "width of metric", "label rows":
            assert result[what].startswith("ValueError: All ranks must"), result
        assert "entries of a row of tensor 0 on each rank: [8, 7]" in result["width"]
        assert "dimensions of tensor 1 on each rank: [1, 2]" in result["label rows"]
    first = results[0]
    assert first["without gather"] == pytest.approx(first["before"], rel=1e-6)
    assert first["alone"].startswith("RuntimeError: Rank 0 of 2 did not hear from")
    assert "same number of batches" in first["alone"]
