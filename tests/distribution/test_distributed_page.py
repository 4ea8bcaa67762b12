"""What docs/distributed.md shows works, on one device."""

import os
import socket

import as_installed
import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
BLOCKS = as_installed.code_blocks("docs/distributed.md")
# What a block begins or goes on with, and the engine that it is for.
ENGINES = {
    "keras.distribution": "jax",
    "import tensorflow": "tensorflow",
    "import torch": "torch",
    "network = torch": "torch",
}


def engine_of(block):
    return next((ENGINES[text] for text in ENGINES if text in block), BACKEND)


@pytest.fixture
def shared(tmp_path):
    """The files that all workers see."""
    rng = np.random.default_rng(0)
    for number in range(2):
        np.save(tmp_path / f"embeddings-{number:03}.npy", rng.normal(size=(64, 4)))
        np.save(tmp_path / f"labels-{number:03}.npy", np.arange(64) // 4)
    return tmp_path


@pytest.fixture
def one_process(monkeypatch):
    """What `torchrun` tells the processes that it starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in {**variables, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    yield
    if BACKEND == "torch":
        import torch

        torch.distributed.destroy_process_group()
    keras.distribution.set_distribution(None)


@pytest.mark.slow
@pytest.mark.usefixtures("one_process")
def test_the_code_runs(shared):
    if BACKEND == "tensorflow" and os.environ.get("TF_NUM_INTEROP_THREADS") == "1":
        pytest.skip("`MirroredStrategy` wants more threads, as the page says")
    distributed = pytest.importorskip("distributed")
    assert {engine_of(block) for block in BLOCKS} == {BACKEND, *ENGINES.values()}
    smaller = {
        '"tcp://scheduler:8786"': "scheduler",
        "/shared": str(shared),
        "range(100)": "range(2)",
        "Executor(4": "Executor(1",
    }
    code = "\n".join(block for block in BLOCKS if engine_of(block) == BACKEND)
    for original, replacement in smaller.items():
        assert code.count(original) >= 1
        code = code.replace(original, replacement)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        names = {"scheduler": cluster.scheduler_address, "__name__": "__main__"}
        exec(compile(code, "docs/distributed.md", "exec"), names)
        names["Client"].current().close()
    assert 0 < names["model"].history.history["loss"][0] < np.inf
    assert len(names["result"].classes) == 16
