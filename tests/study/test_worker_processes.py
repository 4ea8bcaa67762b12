"""The processes that train: their environment, and how they end."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras
import psutil
import pytest

from keras_tcm.study.workers import ALLOCATOR, worker_processes

ROOT = pathlib.Path(__file__).parents[2]


def test_makefile_sets_the_same_variables():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = re.findall(r"^ALLOCATOR := (.*)$", makefile, flags=re.MULTILINE)
    assert dict(word.split("=") for word in line.split()) == ALLOCATOR
    (line,) = re.findall(r"^TEST_ENV := (.*)$", makefile, flags=re.MULTILINE)
    assert "$(ALLOCATOR)" in line


@pytest.mark.slow
def test_environment(monkeypatch):
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    # What the user has set holds.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    before = dict(os.environ)
    with worker_processes(1, {"NPROC": "7"}) as submit:
        names = (*ALLOCATOR, "NPROC", "KERAS_BACKEND")
        found = {name: submit(os.getenv, name).result() for name in names}
        # Raised in the worker, and here.
        with pytest.raises(ZeroDivisionError):
            submit(divmod, 1, 0).result()
    assert found == {
        **{name: before.get(name, value) for name, value in ALLOCATOR.items()},
        "MALLOC_TOP_PAD_": "268435456",
        "MALLOC_ARENA_MAX": "3",
        "NPROC": "7",
        "KERAS_BACKEND": keras.backend.backend(),
    }
    assert dict(os.environ) == before


SCRIPT = """
import os, sys, time
from keras_tcm.study.workers import worker_processes

def work(path):
    open(path, "x").close()
    time.sleep(300)

if __name__ == "__main__":
    with worker_processes(1) as submit:
        future = submit(work, sys.argv[1])
        print("submitted", flush=True)
        future.result()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("when", ["starting", "working"])
def test_interrupt(tmp_path, when):
    """Ctrl-C goes to all processes of a terminal: the first one alone may speak."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "at_work"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "submitted\n"
        deadline = time.monotonic() + 120
        while when == "working" and not (tmp_path / "at_work").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
