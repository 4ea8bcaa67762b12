"""Processes that tests start, wait for and interrupt."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import psutil

import keras_tcm

ROOT = pathlib.Path(keras_tcm.__file__).parents[1]


def start(*arguments, **environment):
    """Start Python on the backend of this process, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *map(os.fspath, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": keras.backend.backend(),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_interrupts if os.name == "posix" else None,
    )


def _hear_interrupts():
    """Undo what a shell does to what runs in the background, such as all the tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process, code=0):
    """What a process has printed, and its errors, when it has ended with a code."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    return output, errors


def wait_until(condition, process):
    """Wait while a process runs, and return what ends that."""
    deadline = time.monotonic() + 600
    while not (found := condition()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def end(process, send, number):
    """Send a signal to a process or to its group; nothing that it started outlives it.

    Returns:
        Its errors.
    """
    try:
        started = psutil.Process(process.pid).children(recursive=True)
        send(process.pid, number)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode != 0
    _, alive = psutil.wait_procs(started, timeout=120)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    return errors


def interrupt(process):
    """Press Ctrl-C, which a terminal sends to all processes of the group."""
    return end(process, os.killpg, signal.SIGINT)
