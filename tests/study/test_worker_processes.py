"""The processes that train: their environment, and how they end."""

import os
import re

import keras
import pytest
from processes import ROOT, interrupt, start, wait_until

from keras_tcm.study.workers import ALLOCATOR, worker_processes


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
    process = start(script, tmp_path / "at_work")
    assert process.stdout.readline() == "submitted\n"
    if when == "working":
        wait_until((tmp_path / "at_work").exists, process)
    errors = interrupt(process)
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
